"""The text of a compiled program: its computations, their instructions, how often each runs, and sizes of arrays."""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

_HEAD = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\{\s*$")
_WHILE = re.compile(r" while\(.*condition=%?([\w.-]+), body=%?([\w.-]+)")
_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
_CALLED = re.compile(r"(?:calls|to_apply|true_computation|false_computation)=%?([\w.-]+)")
_CALLED_LISTS = re.compile(r"(?:branch_computations|called_computations|calls)=\{([^}]*)\}")
_CONSTANT = re.compile(r"s32\[\]\S* constant\((\d+)\)")
_COMMENT = re.compile(r"/\*.*?\*/")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.-]+) = (.*?) ([a-z][a-z0-9-]*)\((.*)")
_OPERAND = re.compile(r"%([\w.-]+)")
_OP_NAME = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')
_ARRAY = re.compile(r"([a-z]+\d*)(?:e\d+m\d+\w*)?\[([\d,]*)\](?:\{([^}]*)\})?")
_TILE = re.compile(r":T\(([\d,]+)\)")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a program.

    Args:
      name: what others call its result.
      shape: of its result, with the layout; in brackets if there are several.
      opcode: what it does.
      operands: the names of what it works on.
      scope: where the line of Python is that it is from: `jax.named_scope`s, modules and transforms, with slashes.
      text: the whole line.
      root: whether its result is that of its computation.
    """

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    scope: str
    text: str
    root: bool


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program (`compiled.as_text()`), read.

    Args:
      lines: of each computation, by its name.
      entry: the computation that it starts with.
    """

    lines: dict[str, list[str]]
    entry: str

    @functools.cached_property
    def instructions(self) -> dict[str, list[Instruction]]:
        """Those of each computation."""
        return {name: [*_instructions(lines)] for name, lines in self.lines.items()}

    @functools.cached_property
    def times(self) -> dict[str, int]:
        """How often each computation runs; a loop whose trips are not known counts once."""
        callers: dict[str, list[tuple[str, int]]] = {}
        for name, lines in self.lines.items():
            for line in lines:
                for callee, trips in _calls(line, self.lines):
                    callers.setdefault(callee, []).append((name, trips))
        known = {self.entry: 1}

        def times(name: str) -> int:
            if name not in known:
                known[name] = sum(times(caller) * trips for caller, trips in callers.get(name, []))
            return known[name]

        return {name: times(name) for name in self.lines}

    @functools.cached_property
    def looped(self) -> set[str]:
        """The computations that run inside loops."""
        found: set[str] = set()
        waiting = [loop[2] for lines in self.lines.values() for line in lines if (loop := _WHILE.search(line))]
        while waiting:
            if (name := waiting.pop()) not in found:
                found.add(name)
                waiting += [called for line in self.lines.get(name, []) for called, _ in _calls(line, self.lines)]
        return found


def read_program(hlo: str) -> Program:
    """Reads the text of a compiled program."""
    found: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in hlo.splitlines():
        if line[:1] not in ("", " ", "}") and (head := _HEAD.match(line)):
            lines = found.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif line.startswith(" "):
            lines.append(_COMMENT.sub("", line))
        elif line == "}":
            lines = []
        elif lines:  # a kernel's attributes may go over several lines
            lines[-1] += line
    return Program(found, entry)


def array_bytes(dtype: str, dims: str, layout: str = "") -> int:
    """The bytes of an array, with what a TPU's layout in tiles pads it to.

    Args:
      dtype: such as "bf16".
      dims: such as "24,1568,384".
      layout: such as "2,1,0:T(8,128)(2,1)": the axes from the fastest on, and a tile of the first of these.
    """
    sides = [int(side) for side in dims.split(",") if side]
    if sides and (tile := _TILE.search(layout)):
        order = [int(axis) for axis in layout.partition(":")[0].split(",")]
        for axis, multiple in zip(order, reversed(tile[1].split(",")), strict=False):
            sides[axis] = -(-sides[axis] // int(multiple)) * int(multiple)
    bits = int(digits[0]) if (digits := re.findall(r"\d+", dtype)) else 8
    return math.prod(sides) * max(bits, 8) // 8


def arrays(shape: str) -> list[tuple[str, str, str]]:
    """(type, sides, layout) of each array of a shape's text."""
    return _ARRAY.findall(shape)


def _instructions(lines: list[str]) -> Iterator[Instruction]:
    for line in lines:
        if found := _INSTRUCTION.match(line):
            root, name, shape, opcode, rest = found.groups()
            # Operands come first and hold no brackets; a name has none either.
            operands = tuple(_OPERAND.findall(rest.partition(")")[0]))
            scope = _OP_NAME.search(rest)
            yield Instruction(name, shape, opcode, operands, scope[1] if scope else "", line, bool(root))


def _calls(line: str, computations: dict[str, list[str]]) -> Iterator[tuple[str, int]]:
    """The computations that an instruction calls, each with how often."""
    if loop := _WHILE.search(line):
        stated = _TRIPS.search(line)
        yield loop[2], int(stated[1]) if stated else _bound(computations.get(loop[1], []))
        return
    for called in _CALLED.findall(line):
        yield called, 1
    for names in _CALLED_LISTS.findall(line):
        for called in names.split(","):
            yield called.strip().lstrip("%"), 1


def _bound(condition: list[str]) -> int:
    """The trips of a loop that counts from 0 to a constant, which is how JAX's scans come out; else 1."""
    constants = {int(value) for line in condition for value in _CONSTANT.findall(line)}
    return constants.pop() if len(constants) == 1 and any("direction=LT" in line for line in condition) else 1
