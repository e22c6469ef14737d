"""The collectives of a compiled program, by kind: how many one step runs and how many bytes they work on."""

import dataclasses
import math
import re

from mgmae_jax.plan.hlo import array_bytes, arrays, read_program

_OPS = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute"
_INSTRUCTION = re.compile(rf"\s+(?:ROOT )?%?[\w.-]+ = ([^=]*?) ({_OPS})(-start)?\(")


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
    program = read_program(hlo)
    times = program.times
    totals: dict[str, list[int]] = {}
    for name, lines in program.lines.items():
        if not times[name] or _continues(name, lines):
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


def _continues(name: str, lines: list[str]) -> bool:
    """Whether a computation repeats an asynchronous collective that another one starts."""
    if any('"AsyncCollectiveStart"' in line for line in lines):
        return False
    return name.startswith("async_collective_fusion") or any('"AsyncCollectiveDone"' in line for line in lines)


def _result_bytes(shape: str, kind: str, start: bool) -> int:
    sizes = [array_bytes(dtype, dims) for dtype, dims, _ in arrays(shape)]
    if start and kind != "all-reduce":  # (operands, results), and for some kinds two counters
        counters = len(re.findall(r"u32\[\]", shape))
        sizes = sizes[: len(sizes) - counters]
        sizes = sizes[len(sizes) // 2 :]
    return sum(sizes)


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
