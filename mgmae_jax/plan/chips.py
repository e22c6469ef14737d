"""The chips that a run can be planned for, and the names of sets of them: `v5e:8x8`, `h200:8`."""

import dataclasses
import math
import re

from mgmae_jax.errors import MgmaeError


@dataclasses.dataclass(frozen=True)
class Chip:
    """What one chip has.

    Args:
      name: as in `--on`.
      hbm_gib: memory that a program can use, in GiB: of a TPU by libtpu's compiler, of a GPU the driver's total.
      tflops: peak of dense bfloat16 products summed in float32, 10**12 operations a second.
      bandwidth: of its memory, in 10**9 bytes a second.
      source: where peak and bandwidth are from.
      tpu: whether it is a TPU, whose programs are compiled ahead of time.
    """

    name: str
    hbm_gib: float
    tflops: float
    bandwidth: float
    source: str
    tpu: bool = False


_CLOUD = "Google Cloud's pages of TPU versions"
_NVIDIA = "NVIDIA's data sheet, without sparsity"
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 30.75, 275, 1228, _CLOUD, tpu=True),
        Chip("v5e", 15.75, 197, 819, _CLOUD, tpu=True),
        Chip("v5p", 95.73, 459, 2765, _CLOUD, tpu=True),
        Chip("v6e", 31.24, 918, 1640, _CLOUD, tpu=True),
        Chip("a100-40", 40.0, 312, 1555, f"{_NVIDIA}: A100 SXM 40GB"),
        Chip("a100-80", 80.0, 312, 2039, f"{_NVIDIA}: A100 SXM 80GB"),
        Chip("h100", 79.6, 989, 3350, f"{_NVIDIA}: H100 SXM"),
        Chip("h200", 140.4, 989, 4800, f"{_NVIDIA}: H200 SXM"),
        Chip("l40s", 45.0, 362, 864, f"{_NVIDIA}: L40S"),
        Chip("rtx4090", 24.0, 165, 1008, f"{_NVIDIA}: the Ada architecture's paper"),
    )
}
_TOPOLOGY = re.compile(r"(\w+):(\d+(?:x\d+)+)(?::(\d+))?")
_COUNT = re.compile(r"([\w-]+):(\d+)")


@dataclasses.dataclass(frozen=True)
class Machines:
    """A number of chips of one kind.

    Args:
      text: as in `--on`.
      chip: their kind.
      chips: how many they are, over all slices.
      topology: how libtpu calls a slice, "v5e:8x8"; empty for GPUs.
      slices: the number of slices.
      flag: the option that named them.
    """

    text: str
    chip: Chip
    chips: int
    topology: str = ""
    slices: int = 1
    flag: str = "--on"


def parse_machines(text: str, flag: str = "--on") -> Machines:
    """Reads a value of `--on`, or of another flag: TPU:TOPOLOGY, TPU:TOPOLOGY:SLICES or GPU:COUNT.

    Raises:
      MgmaeError: it is none of these; the message says what can be given.
    """
    name = text.partition(":")[0]
    chip = CHIPS.get(name)
    if chip is None:
        raise MgmaeError(f"{flag} {text!r}: there is no chip {name!r}: give one of {', '.join(CHIPS)}.")
    if not chip.tpu:
        counted = _COUNT.fullmatch(text)
        if not counted or not int(counted[2]):
            raise MgmaeError(f"{flag} {text!r}: give the number of GPUs, as {name}:8.")
        return Machines(text, chip, int(counted[2]), flag=flag)
    laid = _TOPOLOGY.fullmatch(text)
    flat = name in ("v5e", "v6e")
    dimensions = [int(side) for side in laid[2].split("x")] if laid else []
    slices = int(laid[3] or 1) if laid else 0
    if len(dimensions) != (2 if flat else 3) or not math.prod(dimensions) * slices:
        sample = f"{name}:8x8" if flat else f"{name}:4x4x8"
        raise MgmaeError(
            f"{flag} {text!r}: give a slice's chips along each axis, as {sample}, or 2 slices: {sample}:2."
        )
    return Machines(text, chip, math.prod(dimensions) * slices, f"{name}:{laid[2] if laid else ''}", slices, flag)
