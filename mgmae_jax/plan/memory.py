"""What a step holds on each chip, part by part, whether that fits, and what to change if it does not."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mgmae_jax.plan.work import Placed

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on each chip.

    Args:
      parameters: the model's.
      optimiser: the optimiser's state.
      average: the moving average of the parameters, if the run keeps one.
      frozen: what the step reads and never changes: RAFT's weights.
      batch: the chip's share of one batch.
      padding: what the chip's layout of all of these adds; None if nothing was compiled.
      temporaries: activations, gradients and all else that lives within a step; None if nothing was compiled. If the
        program does not fit, padding is part of this.
      program: the instructions; None if nothing was compiled.
    """

    parameters: int
    optimiser: int
    average: int
    frozen: int
    batch: int
    padding: int | None = None
    temporaries: int | None = None
    program: int | None = None

    @property
    def arguments(self) -> int:
        """What is there before the step starts."""
        return self.parameters + self.optimiser + self.average + self.frozen + self.batch

    @property
    def total(self) -> int:
        """All that is known."""
        return self.arguments + (self.padding or 0) + (self.temporaries or 0) + (self.program or 0)


def bytes_on_chip(tree: Any) -> int:
    """The bytes of a tree of shapes with shardings that one chip holds."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * _itemsize(leaf.dtype) for leaf in jax.tree.leaves(tree)
    )


def _itemsize(dtype: Any) -> int:
    return 8 if jnp.issubdtype(dtype, jax.dtypes.prng_key) else int(dtype.itemsize)


def memory_of_arguments(placed: Placed) -> Memory:
    """The parts that are known without compiling."""
    state = placed.state
    return Memory(
        parameters=bytes_on_chip(state.params),
        optimiser=bytes_on_chip(state.opt_state),
        average=bytes_on_chip(state.ema),
        frozen=bytes_on_chip(placed.frozen),
        batch=bytes_on_chip(placed.batch),
    )


def advice(memory: Memory, hbm_gib: float, config: ConfigDict, chips: int, fsdp: int) -> list[str]:
    """What to change so that a step needs less, the cheapest first; the numbers say what each can give.

    Args:
      memory: the parts.
      hbm_gib: what there is.
      config: the config.
      chips: their number.
      fsdp: how many of them share a copy of the state.
    """
    state = memory.parameters + memory.optimiser + memory.average
    changes = []
    least = state * fsdp / chips  # what splitting over all chips leaves, roughly
    if fsdp < chips and state - least > 0.05 * hbm_gib * GIB:
        changes.append(
            f"mesh.fsdp (now {fsdp}): over all {chips} chips, the state takes {least / GIB:.2f} GiB of "
            f"its {state / GIB:.2f}"
        )
    clips = config.train.batch_size * config.data.views // chips
    parts = config.train.accumulate
    more = next((divisor for divisor in range(parts + 1, clips + 1) if clips % divisor == 0), None)
    if more is not None:
        changes.append(
            f"train.accumulate={more} (now {parts}): {clips // more} clips a chip at once instead of {clips / parts:g}"
        )
    if not config.model.remat:
        changes.append("model.remat=True: activations of one block at a time, for about a third more operations")
    if clips > 1:
        changes.append(f"train.batch_size or data.views, which make {clips} clips a chip, or more chips")
    return changes or ["chips with more memory: the batch and the state are as small as they can be"]
