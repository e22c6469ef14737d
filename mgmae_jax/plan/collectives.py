"""The collectives of a compiled program, by kind: how many one step runs and how many bytes they work on."""

import dataclasses
import math
import re
from collections.abc import Iterator

_OPS = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute"
_HEAD = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(rf"\s+(?:ROOT )?%?[\w.-]+ = ([^=]*?) ({_OPS})(-start)?\(")
_WHILE = re.compile(r" while\(.*condition=%?([\w.-]+), body=%?([\w.-]+)")
_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
_CALLED = re.compile(r"(?:calls|to_apply|true_computation|false_computation)=%?([\w.-]+)")
_CALLED_LISTS = re.compile(r"(?:branch_computations|called_computations|calls)=\{([^}]*)\}")
_SHAPE = re.compile(r"([a-z]+\d*)(?:e\d+m\d+\w*)?\[([\d,]*)\]")
_CONSTANT = re.compile(r"s32\[\]\S* constant\((\d+)\)")
_COMMENT = re.compile(r"/\*.*?\*/")


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of a kind in one step.

    Args:
      kind: all-gather, all-reduce, reduce-scatter, all-to-all or collective-permute.
      count: how many run, those in loops as often as the loop does.
      bytes: on each chip, the whole arrays that are gathered, reduced or sent.
    """

    kind: str
    count: int
    bytes: int


def collectives(hlo: str) -> list[Collective]:
    """Finds the collectives in the text of a compiled program (`compiled.as_text()`).

    An asynchronous collective counts once, whether XLA writes it as a pair of start and done, or as fusions that begin,
    continue and end it, as for TPUs. A TPU's reduce-scatter is a fusion around an all-reduce, and counts as the former.
    """
    computations, entry = _computations(hlo)
    times = _times(computations, entry)
    totals: dict[str, list[int]] = {}
    for name, lines in computations.items():
        if not times.get(name) or _continues(name, lines):
            continue
        for line in lines:
            if not (found := _INSTRUCTION.match(line)):
                continue
            kind, moved = found[2], _result_bytes(found[1], found[2], bool(found[3]))
            if kind == "reduce-scatter":
                moved *= _group(line)
            elif kind == "all-reduce" and "all-reduce-scatter" in name:
                kind = "reduce-scatter"
            total = totals.setdefault(kind, [0, 0])
            total[0] += times[name]
            total[1] += times[name] * moved
    return [Collective(kind, *totals[kind]) for kind in sorted(totals)]


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation by its name, and the name of the one that the program starts with."""
    found: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in hlo.splitlines():
        if line[:1] not in ("", " ", "}") and (head := _HEAD.match(line)):
            lines = found.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif line.startswith(" "):
            lines.append(_COMMENT.sub("", line))
    return found, entry


def _times(computations: dict[str, list[str]], entry: str) -> dict[str, int]:
    """How often each computation runs."""
    callers: dict[str, list[tuple[str, int]]] = {}
    for name, lines in computations.items():
        for line in lines:
            for callee, trips in _calls(line, computations):
                callers.setdefault(callee, []).append((name, trips))
    known = {entry: 1}

    def times(name: str) -> int:
        if name not in known:
            known[name] = sum(times(caller) * trips for caller, trips in callers.get(name, []))
        return known[name]

    return {name: times(name) for name in computations}


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


def _continues(name: str, lines: list[str]) -> bool:
    """Whether a computation repeats an asynchronous collective that another one starts."""
    if any('"AsyncCollectiveStart"' in line for line in lines):
        return False
    return name.startswith("async_collective_fusion") or any('"AsyncCollectiveDone"' in line for line in lines)


def _result_bytes(shape: str, kind: str, start: bool) -> int:
    sizes = [_bytes(dtype, dims) for dtype, dims in _SHAPE.findall(shape)]
    if start and kind != "all-reduce":  # (operands, results), and for some kinds two counters
        counters = len(re.findall(r"u32\[\]", shape))
        sizes = sizes[: len(sizes) - counters]
        sizes = sizes[len(sizes) // 2 :]
    return sum(sizes)


def _bytes(dtype: str, dims: str) -> int:
    bits = int(digits[0]) if (digits := re.findall(r"\d+", dtype)) else 8
    return math.prod(int(side) for side in dims.split(",") if side) * max(bits, 8) // 8


def _group(line: str) -> int:
    """The chips that a collective is among."""
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", line):
        return listed[1].count(",") + 1
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]<=", line):
        return int(iota[1])
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", line):
        sizes = dict(part.split("=") for part in mesh[1].split(","))
        return math.prod(int(sizes[axis]) for axis in mesh[2].split(",") if axis in sizes)
    return 1
