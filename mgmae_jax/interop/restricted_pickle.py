"""Unpickling of plain data from untrusted files.

`pickle.Unpickler` with a strict `find_class` runs no foreign code either, but a hostile file still makes it allocate
memory by naming a number (a memo index of 2^32 takes 64 GB) or hash a tuple of tuples for ever. This reader knows the
opcodes of protocol 2 that plain data needs, and never does more work than the file's length justifies.
"""

import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_OTHERS = "PROTO STOP MARK TUPLE EMPTY_DICT EMPTY_LIST BINPUT LONG_BINPUT BINGET LONG_BINGET"
_ACTIONS = "GLOBAL REDUCE BUILD BINPERSID SETITEM SETITEMS APPEND APPENDS"
_NAMES = {*_CONSTANTS, *_LITERALS, *_TUPLES, *_OTHERS.split(), *_ACTIONS.split()}
_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes if opcode.name in _NAMES}


def _read_argument(stream: BinaryIO, opcode: pickletools.OpcodeInfo) -> Any:
    if opcode.name == "GLOBAL":
        # pickletools' reader treats backslashes as escapes, which they are not.
        return ".".join(stream.readline().rstrip(b"\n").decode() for _ in range(2))
    return opcode.arg.reader(stream) if opcode.arg else None


def load_plain(
    stream: BinaryIO,
    allowed: Mapping[str, Any] | None = None,
    persistent_load: Callable[[Any], Any] | None = None,
) -> Any:
    """Reads one pickle of numbers, strings, tuples, lists and dicts, and leaves the stream after it.

    Args:
      stream: the data, in memory, so that reading past its end allocates nothing.
      allowed: "module.name" to its replacement; the pickle may refer only to these, and may call those that are
        callable.
      persistent_load: returns the object for a persistent id; None rejects them.

    Returns:
      The object. Its dicts have strings and numbers as keys; attributes that the pickle would set are ignored.

    Raises:
      pickle.UnpicklingError: the data is damaged, or refers to anything else.
    """
    try:
        return _run(stream, allowed or {}, persistent_load)
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError) as error:
        raise pickle.UnpicklingError(f"damaged pickle: {error!r:.200}") from error


def _run(stream: BinaryIO, allowed: Mapping[str, Any], persistent_load: Callable[[Any], Any] | None) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def pop_to_mark() -> list[Any]:
        height = marks.pop()
        items = stack[height:]
        del stack[height:]
        return items

    while code := stream.read(1):
        if code not in _OPCODES:
            raise pickle.UnpicklingError(f"pickle opcode {code!r} is damaged, or not plain data of protocol 2")
        opcode = _OPCODES[code]
        argument = _read_argument(stream, opcode)
        match opcode.name:
            case name if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case name if name in _LITERALS:
                stack.append(argument)
            case name if name in _TUPLES:
                items = [stack.pop() for _ in range(_TUPLES[name])]
                stack.append(tuple(reversed(items)))
            case "MARK":
                marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(pop_to_mark()))
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
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
            case "GLOBAL":
                if argument not in allowed:
                    raise pickle.UnpicklingError(f"refers to {argument!r:.200}, which is refused: it could run code")
                stack.append(allowed[argument])
            case "BINPERSID":
                if persistent_load is None:
                    raise pickle.UnpicklingError("has a persistent id out of place")
                stack.append(persistent_load(stack.pop()))
            case "REDUCE":
                arguments = stack.pop()
                stack.append(stack.pop()(*arguments))
            case "BUILD":
                stack.pop()
            case "STOP":
                return stack.pop()
    raise pickle.UnpicklingError("the pickle ends early")


def _set_items(target: Any, items: list[Any]) -> None:
    if type(target) is not dict or not all(isinstance(key, str | int | float) for key in items[::2]):
        raise pickle.UnpicklingError("sets items of something other than a plain dict")
    target.update(zip(items[::2], items[1::2], strict=True))


def _extend(target: Any, items: list[Any]) -> None:
    if type(target) is not list:
        raise pickle.UnpicklingError("appends to something other than a list")
    target.extend(items)
