"""Unpickling of plain data from untrusted files, in which nothing is ever run.

`pickle.Unpickler` with a strict `find_class` runs no foreign code either, but a hostile file still makes it allocate
memory by naming a number (a memo index of 2^32 takes 64 GB) or hash a tuple of tuples for ever; and it stops at the
first class that it may not have. This reader knows the opcodes of plain data, never does more work than the
file's length justifies, and puts an inert `Skipped` where the file would have made an object of some class.
"""

import pickle
import pickletools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "INT", "LONG", "FLOAT"}
_LINES = {"UNICODE", "STRING"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# The bytes of the length of each kind of string.
_STRINGS = {"SHORT_BINUNICODE": 1, "BINUNICODE": 4, "BINUNICODE8": 8, "SHORT_BINSTRING": 1, "BINSTRING": 4}
_BYTES = {"SHORT_BINBYTES": 1, "BINBYTES": 4, "BINBYTES8": 8, "BYTEARRAY8": 8}
_OTHERS = (
    "PROTO FRAME STOP MARK TUPLE EMPTY_DICT EMPTY_LIST EMPTY_SET DICT LIST FROZENSET BINPUT LONG_BINPUT BINGET "
    "LONG_BINGET MEMOIZE PUT GET POP POP_MARK DUP GLOBAL STACK_GLOBAL INST OBJ REDUCE NEWOBJ NEWOBJ_EX BUILD BINPERSID "
    "SETITEM SETITEMS APPEND APPENDS ADDITEMS"
)
_NAMES = {*_CONSTANTS, *_NUMBERS, *_LINES, *_TUPLES, *_STRINGS, *_BYTES, *_OTHERS.split()}
_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes if opcode.name in _NAMES}
_LINE = 1024  # bytes: the longest name of a class, or a number in decimal
_TEXT = 1 << 16  # bytes: a longer string is data that nobody here asks for, and is passed over
_MOST_OPCODES = 1 << 24  # a hundred times what a ViT-H with its optimiser has
MOST_ARGUMENTS = 16
"""Of a call; what `torch.save` writes has fewer than ten."""
_PLAIN_KEYS = (str, int, float, bool, type(None))
_NOTHING: Mapping[Any, Any] = MappingProxyType({})  # one for all, as a file may have millions of objects


class Skipped:
    """What stands for an object of a class that is not plain data: the class was not imported, nothing was run.

    Attributes:
      name: what the file refers to, "argparse.Namespace".
      state: the attributes that the object would have had, if the file gives them as a dict.
      items: what it would have held by key: it was of a kind of dict.
    """

    __slots__ = ("items", "name", "state")

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = _NOTHING
        self.items = _NOTHING


class Reader:
    """Reads a buffer from front to back; asking for more than it holds is an error, and allocates nothing.

    Args:
      buffer: the data, which may be a mapped file.
      position: where to begin.
    """

    def __init__(self, buffer: memoryview, position: int = 0) -> None:
        self.buffer = buffer
        self.position = position

    def read(self, count: int) -> bytes:
        """The next `count` bytes.

        Raises:
          ValueError: there are fewer, or an unreasonable number is asked for.
        """
        if not 0 <= count <= _TEXT:
            raise ValueError(f"a value of {count} bytes")
        self.skip(count)
        return bytes(self.buffer[self.position - count : self.position])

    def readline(self) -> bytes:
        """The next line, with its end.

        Raises:
          ValueError: it is too long, or has no end.
        """
        line, end, _ = bytes(self.buffer[self.position : self.position + _LINE]).partition(b"\n")
        if not end:
            raise ValueError("a line without an end")
        self.skip(len(line) + 1)
        return line + end

    def skip(self, count: int) -> None:
        """Passes over the next `count` bytes.

        Raises:
          ValueError: there are fewer.
        """
        if not 0 <= count <= len(self.buffer) - self.position:
            raise ValueError(f"{count} bytes are declared where {len(self.buffer) - self.position} are left")
        self.position += count


def load_plain(
    reader: Reader,
    allowed: Mapping[str, Any] | None = None,
    persistent_load: Callable[[Any], Any] | None = None,
) -> Any:
    """Reads one pickle, and leaves the reader after it.

    Args:
      reader: the data.
      allowed: "module.name" to its replacement, which the pickle may call if it is callable. Whatever else it refers
        to becomes `Skipped`, as do the objects made of that.
      persistent_load: returns the object for a persistent id; None rejects them.

    Returns:
      Numbers, strings, tuples, lists, dicts, what `allowed` gives, and `Skipped`. Dicts have only those items whose
      keys are strings, numbers or None; sets, bytes and strings of more than 64 KiB are skipped; attributes that the
      pickle would set on anything else than a `Skipped` are ignored.

    Raises:
      pickle.UnpicklingError: the data is damaged.
    """
    try:
        return _run(reader, allowed or {}, persistent_load)
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError) as error:
        raise pickle.UnpicklingError(f"damaged pickle: {error!r:.200}") from error


def _run(reader: Reader, allowed: Mapping[str, Any], persistent_load: Callable[[Any], Any] | None) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def pop_to_mark() -> list[Any]:
        height = marks.pop()
        items = stack[height:]
        del stack[height:]
        return items

    def find(name: str) -> Any:
        return allowed[name] if name in allowed else Skipped(name)

    for _ in range(_MOST_OPCODES):
        code = reader.read(1)
        if code not in _OPCODES:
            raise pickle.UnpicklingError(f"pickle opcode {code!r} is damaged, or not one of plain data")
        opcode = _OPCODES[code]
        match opcode.name:
            case name if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case name if name in _NUMBERS or name in _LINES:
                stack.append(_argument(reader, opcode))
            case name if name in _STRINGS:
                stack.append(_text(reader, _STRINGS[name]))
            case name if name in _BYTES:
                reader.skip(_length(reader, _BYTES[name]))
                stack.append(Skipped("bytes"))
            case name if name in _TUPLES:
                items = [stack.pop() for _ in range(_TUPLES[name])]
                stack.append(tuple(reversed(items)))
            case "PROTO" | "FRAME":
                _argument(reader, opcode)
            case "MARK":
                marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(pop_to_mark()))
            case "LIST":
                stack.append(pop_to_mark())
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                items = pop_to_mark()
                stack.append({})
                _set_items(stack[-1], items)
            case "EMPTY_SET":
                stack.append(Skipped("set"))
            case "FROZENSET":
                pop_to_mark()
                stack.append(Skipped("frozenset"))
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                memo[_argument(reader, opcode)] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(memo[_argument(reader, opcode)])
            case "POP":
                # Where the stack has nothing above its last mark, it is the mark that is popped.
                marks.pop() if marks and marks[-1] == len(stack) else stack.pop()
            case "POP_MARK":
                pop_to_mark()
            case "DUP":
                stack.append(stack[-1])
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _set_items(stack[-1], [key, value])
            case "SETITEMS":
                items = pop_to_mark()
                _set_items(stack[-1], items)
            case "APPEND":
                item = stack.pop()
                _extend(stack[-1], [item])
            case "APPENDS":
                items = pop_to_mark()
                _extend(stack[-1], items)
            case "ADDITEMS":
                pop_to_mark()
            case "GLOBAL":
                stack.append(find(_global(reader)))
            case "STACK_GLOBAL":
                last, module = stack.pop(), stack.pop()
                stack.append(find(f"{module}.{last}" if isinstance(module, str) and isinstance(last, str) else "?"))
            case "INST":
                made = find(_global(reader))
                stack.append(_make(made, tuple(pop_to_mark())))
            case "OBJ":
                made, *arguments = pop_to_mark()
                stack.append(_make(made, tuple(arguments)))
            case "NEWOBJ" | "REDUCE":
                arguments = stack.pop()
                stack.append(_make(stack.pop(), arguments))
            case "NEWOBJ_EX":
                stack.pop()
                arguments = stack.pop()
                stack.append(_make(stack.pop(), arguments))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], Skipped) and isinstance(state, dict):
                    stack[-1].state = state
            case "BINPERSID":
                if persistent_load is None:
                    raise pickle.UnpicklingError("has a persistent id out of place")
                stack.append(persistent_load(stack.pop()))
            case "STOP":
                return stack.pop()
    raise pickle.UnpicklingError(f"a pickle of more than {_MOST_OPCODES} parts")


def _argument(reader: Reader, opcode: pickletools.OpcodeInfo) -> Any:
    return opcode.arg.reader(reader) if opcode.arg else None  # type: ignore[arg-type]  # it reads bytes and lines


def _global(reader: Reader) -> str:
    # pickletools' reader treats backslashes as escapes, which they are not.
    return ".".join(reader.readline().rstrip(b"\n").decode() for _ in range(2))


def _length(reader: Reader, size: int) -> int:
    return int.from_bytes(reader.read(size), "little")


def _text(reader: Reader, size: int) -> Any:
    length = _length(reader, size)
    if length > _TEXT:
        reader.skip(length)
        return Skipped("str")
    return reader.read(length).decode("utf-8", "surrogateescape")


def _make(made: Any, arguments: Any) -> Any:
    """What calling `made` gives: nothing is called but what `allowed` holds."""
    if isinstance(made, Skipped):
        return Skipped(made.name)
    return made(*few(arguments, MOST_ARGUMENTS))


def few(values: Any, most: int) -> tuple[Any, ...]:
    """The values of a tuple or list that is to be copied: a few bytes may name a long one again and again.

    Raises:
      pickle.UnpicklingError: it is something else, or has more than `most`.
    """
    if not isinstance(values, (tuple, list)):
        raise pickle.UnpicklingError(f"calls something with {type(values).__name__}, other than a tuple or list")
    if len(values) > most:
        raise pickle.UnpicklingError(f"calls something with {len(values)} values: more than {most} values are refused")
    return tuple(values)


def _set_items(target: Any, items: list[Any]) -> None:
    if isinstance(target, Skipped):
        if target.items is _NOTHING:
            target.items = {}
        target = target.items
    if type(target) is not dict or len(items) % 2:
        raise pickle.UnpicklingError("sets items of something other than a dict")
    # The keys that are left out may take for ever to hash.
    pairs = zip(items[::2], items[1::2], strict=True)
    target.update((key, value) for key, value in pairs if isinstance(key, _PLAIN_KEYS))


def _extend(target: Any, items: list[Any]) -> None:
    if isinstance(target, Skipped):
        return
    if type(target) is not list:
        raise pickle.UnpicklingError("appends to something other than a list")
    target.extend(items)
