"""What a compiled program asks of a chip, read off its text: bytes moved by scope, gathers, arrays of token pairs."""

import collections
import dataclasses
import functools
import math
import re

from mgmae_jax.plan.hlo import Instruction, Program, array_bytes, arrays, read_program

SCOPES = ("flow", "mask", "cubes", "model", "update")
"""The `jax.named_scope`s of a pre-training step."""
REST = "loss and moves"
"""What is in none of them: the loss, the reduction of gradients, and copies that XLA adds."""
_SCOPE = re.compile(rf"\b({'|'.join(SCOPES)})\b")
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all",
    "opt-barrier", "partition-id", "replica-id", "copy-done", "slice-done", "async-start", "async-update", "async-done",
    "all-reduce-done", "all-gather-done", "collective-permute-done",
}  # fmt: skip
_SLICES = ("slice", "dynamic-slice", "gather")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_APPLIED = re.compile(r"(?:calls|to_apply)=%?([\w.-]+)")


@dataclasses.dataclass(frozen=True)
class Gathers:
    """The gathers of a program.

    Args:
      count: how many instructions there are.
      looped: those of them that are inside loops.
      scalar: those of them that take one element at a time.
      scalar_looped: those that are both.
    """

    count: int
    looped: int
    scalar: int
    scalar_looped: int


@dataclasses.dataclass(frozen=True)
class Costs:
    """What a program asks of one chip in one call.

    Args:
      bytes: of the chip's main memory that are read and written, by scope; a loop's as often as it runs. What an
        instruction only slices counts as the slice, what is kept in memory on the chip not at all, and what a kernel
        reads twice once.
      cycles: by scope, what the compiler expects the instructions to take; kernels and collectives have no estimate,
        and nothing has one on a CPU.
      gathers: see `Gathers`.
      pair_arrays: the shapes with two axes of all tokens, padded or not.
    """

    bytes: dict[str, int]
    cycles: dict[str, int]
    gathers: Gathers
    pair_arrays: tuple[str, ...]


def scope_of(path: str) -> str:
    """The first of `SCOPES` on an instruction's way through scopes and transforms; `REST` if none is."""
    found = _SCOPE.search(path)
    return found[1] if found else REST


def count_costs(hlo: str, tokens: int, padded: int) -> Costs:
    """Counts what the text of a compiled program says (`compiled.as_text()`).

    Args:
      hlo: the text.
      tokens: all tokens of a clip.
      padded: to how many a kernel pads them.
    """
    program = read_program(hlo)
    moved: collections.Counter[str] = collections.Counter()
    cycles: collections.Counter[str] = collections.Counter()
    gathers = []
    pairs = set()
    applied = _applied(program)
    for name, instructions in program.instructions.items():
        gathers += [(name in program.looped, _is_scalar(one)) for one in instructions if one.opcode == "gather"]
        for one in instructions:
            pairs |= {
                f"{dtype}[{dims}]"
                for dtype, dims, _ in arrays(one.shape)
                if sum(tokens <= int(side) <= padded for side in dims.split(",") if side) > 1
            }
        if name not in applied:
            shapes = {one.name: one.shape for one in instructions}
            for one in instructions:
                scope, times = scope_of(one.scope), program.times[name]
                moved[scope] += times * _bytes(one, shapes, program)
                if estimate := _CYCLES.search(one.text):
                    cycles[scope] += times * int(estimate[1])
    return Costs(
        bytes=dict(moved),
        cycles=dict(cycles),
        gathers=Gathers(
            count=len(gathers),
            looped=sum(looped for looped, _ in gathers),
            scalar=sum(scalar for _, scalar in gathers),
            scalar_looped=sum(looped and scalar for looped, scalar in gathers),
        ),
        pair_arrays=tuple(sorted(pairs)),
    )


def _is_scalar(gather: Instruction) -> bool:
    sizes = re.search(r"slice_sizes=\{([\d,]*)\}", gather.text)
    return sizes is None or math.prod(int(size) for size in sizes[1].split(",") if size) == 1


def _applied(program: Program) -> set[str]:
    """The computations that are inside an instruction, such as a fusion, and move nothing themselves."""
    found: set[str] = set()
    for instructions in program.instructions.values():
        for one in instructions:
            if one.opcode not in ("call", "async-start"):
                found.update(_APPLIED.findall(one.text))
    waiting = [*found]
    while waiting:
        inner = {name for one in program.instructions.get(waiting.pop(), []) for name in _APPLIED.findall(one.text)}
        waiting += inner - found
        found |= inner
    return found


def _bytes(one: Instruction, shapes: dict[str, str], program: Program) -> int:
    """The bytes of main memory that an instruction reads and writes in one run."""
    if one.opcode in _FREE or '"ConcatBitcast"' in one.text:
        return 0
    if one.opcode == "copy-start":  # (to, from, counter)
        return _main_bytes(one.shape)
    if one.opcode == "slice-start":  # ((from), to, counter)
        (*_, source), target = arrays(one.shape)[:-2], arrays(one.shape)[-2]
        return _size([target]) * _is_main(source) + _size([target]) * _is_main(target)
    fused = _fused(one, program)
    moved = _written(one, fused, shapes)
    for index, operand in enumerate(one.operands):
        shape = shapes.get(operand, "")
        read = _main_bytes(shape)
        part = _part_read(one, index, fused, shapes) if read else None
        moved += read if part is None else min(read, part)
    return moved


def _fused(one: Instruction, program: Program) -> list[Instruction]:
    called = _APPLIED.search(one.text) if one.opcode == "fusion" else None
    return program.instructions.get(called[1], []) if called else []


def _part_read(one: Instruction, index: int, fused: list[Instruction], shapes: dict[str, str]) -> int | None:
    """The bytes of an operand that an instruction reads; None if it is all of it."""
    if one.opcode in _SLICES and index == 0:
        return _size(arrays(one.shape))
    if one.opcode == "dynamic-update-slice" and index == 0:
        return 0
    parameters = (inner for inner in fused if inner.opcode == "parameter")
    name = next((inner.name for inner in parameters if f"parameter({index})" in inner.text), None)
    if name is None:
        return None
    parts = [_part_read(inner, inner.operands.index(name), [], shapes) for inner in fused if name in inner.operands]
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _written(one: Instruction, fused: list[Instruction], shapes: dict[str, str]) -> int:
    """The bytes of its results in main memory; of one that is updated in place, those of the update."""
    if one.opcode == "dynamic-update-slice":
        return _size(arrays(shapes.get(one.operands[1], ""))) * bool(_main_bytes(one.shape))
    inner = {line.name: line for line in fused}
    root = next((line for line in fused if line.root), None)
    results = [] if root is None else [inner.get(name) for name in root.operands] if root.opcode == "tuple" else [root]
    found = arrays(one.shape)
    if len(results) != len(found):
        return _main_bytes(one.shape)
    total = 0
    for array, result in zip(found, results, strict=True):
        while result is not None and result.opcode == "bitcast":
            result = inner.get(result.operands[0])
        update = inner.get(result.operands[1]) if result and result.opcode == "dynamic-update-slice" else None
        total += _is_main(array) * _size([array] if update is None else arrays(update.shape))
    return total


@functools.cache
def _main_bytes(shape: str) -> int:
    """The bytes of the arrays of a shape that are in the chip's main memory."""
    return _size([array for array in arrays(shape) if _is_main(array)])


def _size(found: list[tuple[str, str, str]]) -> int:
    return sum(array_bytes(*array) for array in found)


def _is_main(array: tuple[str, str, str]) -> bool:
    """Whether an array is in main memory: a layout names any other, as S(1)."""
    return "S(" not in array[2]
