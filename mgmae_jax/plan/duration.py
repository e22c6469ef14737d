"""How long a run takes at a stated utilisation, and what it asks of the hosts that read videos for it."""

import dataclasses
import math

from mgmae_jax.plan.chips import Chip
from mgmae_jax.plan.work import Work

_DAY = 24 * 3600


@dataclasses.dataclass(frozen=True)
class Duration:
    """Time and data of a run.

    Args:
      step_seconds: the time of a step.
      days: the time of all steps.
      chip_hours: that of all chips together.
      clips: a second, over all chips.
      videos: decoded a second; each gives `data.views` clips.
      megabytes: of batches a second, 10**6 bytes, from the hosts to all chips.
      host_cores: that decode these videos, over all hosts.
    """

    step_seconds: float
    days: float
    chip_hours: float
    clips: float
    videos: float
    megabytes: float
    host_cores: int


def estimate(work: Work, chip: Chip, chips: int, utilisation: float, clips_per_core: float) -> Duration:
    """The duration of a run whose chips reach a share of their peak.

    Args:
      work: the run.
      chip: the kind of chip.
      chips: their number.
      utilisation: the share of `chip.tflops` that the step's operations reach, above 0, up to 1.
      clips_per_core: clips that a host's core reads in a second, one of each video.
    """
    seconds = work.flops / (chips * chip.tflops * 1e12 * utilisation)
    videos = work.batch_size / seconds
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in work.batch.values())
    return Duration(
        step_seconds=seconds,
        days=work.steps * seconds / _DAY,
        chip_hours=work.steps * seconds * chips / 3600,
        clips=work.clips / seconds,
        videos=videos,
        megabytes=size / seconds / 1e6,
        host_cores=math.ceil(videos / clips_per_core),
    )
