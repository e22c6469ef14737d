"""What a run does: its step, in shapes only, and how often it is repeated."""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from mgmae_jax.bench.flops import count_flops
from mgmae_jax.errors import ConfigError, MgmaeError
from mgmae_jax.flow.raft import init_params
from mgmae_jax.runtime.config_checks import kind_of
from mgmae_jax.runtime.mesh import AXES, tree_shardings
from mgmae_jax.train.finetune import Finetuning, build_finetuning
from mgmae_jax.train.optim import epochs_to_steps
from mgmae_jax.train.pretrain import Pretraining, build_pretraining

PUBLISHED = {"ssv2": 168_913, "k400": 240_000}
"""Training videos of Something-Something V2, and about so many of Kinetics-400, by the word in a config's name."""
_STORED_POINTS = 34
"""Rows and columns of stored flow that come with a crop, if `mgmae flow` computed it at its own size."""
_KINDS: Mapping[str, Callable[[ConfigDict, int], Pretraining | Finetuning]] = {
    "pretrain": build_pretraining,
    "finetune": build_finetuning,
}
AnyMesh = Mesh | AbstractMesh


@dataclasses.dataclass(frozen=True)
class Work:
    """A run, as a plan sees it.

    Args:
      trainer: what has the step.
      state: the shapes of what it changes.
      batch: the shapes of a global batch.
      frozen: those of what the step reads and never changes.
      videos: in the data set.
      steps: of the whole run.
      batch_size: videos in a step.
      flops: operations of a step, over all chips.
      flow_flops: the part of these that RAFT takes.
    """

    trainer: Pretraining | Finetuning
    state: Any
    batch: Mapping[str, jax.ShapeDtypeStruct]
    frozen: Any
    videos: int
    steps: int
    batch_size: int
    flops: int
    flow_flops: int

    @property
    def clips(self) -> int:
        """Clips in a step: the views of every video."""
        return next(iter(self.batch.values())).shape[0]


@dataclasses.dataclass(frozen=True)
class Placed:
    """The arguments of a step, as shapes with shardings on a mesh."""

    state: Any
    frozen: Any
    batch: Any
    key: Any


def count_videos(config: ConfigDict, name: str, given: int | None) -> int:
    """How many videos an epoch has.

    Args:
      config: the resolved config.
      name: the value of `--config`.
      given: that of `--videos`.

    Raises:
      MgmaeError: nothing says how many.
    """
    if given is not None:
        return given
    for word, videos in PUBLISHED.items():
        if word in name.rpartition("/")[2]:
            return videos
    if config.data.path:
        known = ", ".join(f"{word} ({videos})" for word, videos in PUBLISHED.items())
        raise MgmaeError(
            f"--config {name}: give --videos, how many videos config.data.path={config.data.path!r} has; a plan reads "
            f"no lists, and knows only the sizes that configs are named after: {known}."
        )
    count: int = config.data.motion_shapes.videos
    return count


def build_work(config: ConfigDict, videos: int) -> Work:
    """Builds the trainer, traces its step and counts.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    trainer = build_trainer(config, videos)
    batch = batch_shapes(config, trainer)
    key = jax.eval_shape(lambda: jax.random.key(0))
    raft = isinstance(trainer, Pretraining) and trainer.masks.runs_raft
    frozen = jax.eval_shape(init_params, key) if raft else {}
    counted = copy.deepcopy(config)
    # No count sees into cuDNN's, which does the same operations, and nothing of it can be traced without a GPU.
    counted.model.attention = "xla"
    same = build_trainer(counted, videos)
    state = jax.eval_shape(same.init, key)
    flops = count_flops(jax.jit(same.step).trace(state, frozen, batch, key).jaxpr.jaxpr)
    return Work(
        trainer=trainer,
        state=state,
        batch=batch,
        frozen=frozen,
        videos=videos,
        steps=epochs_to_steps(config.train.epochs, videos, config.train.batch_size),
        batch_size=config.train.batch_size,
        flops=flops,
        flow_flops=_flow_flops(same, frozen, batch) if raft and isinstance(same, Pretraining) else 0,
    )


def build_trainer(config: ConfigDict, videos: int) -> Pretraining | Finetuning:
    """The trainer of a config.

    Raises:
      ConfigError: the config is of another kind, or a field has a value that cannot work.
    """
    check_plannable(config)
    return _KINDS[kind_of(config)](config, videos)


def check_plannable(config: ConfigDict) -> None:
    """Checks that a config is of a kind that has a plan.

    Raises:
      ConfigError: it is of another.
    """
    if (kind := kind_of(config)) not in _KINDS:
        raise ConfigError("kind", kind, f"a config of kind {' or '.join(map(repr, _KINDS))}, which have a plan")


def batch_shapes(config: ConfigDict, trainer: Pretraining | Finetuning) -> dict[str, jax.ShapeDtypeStruct]:
    """The arrays of a global batch, as data workers compose it."""
    clips, frames, size = config.train.batch_size * config.data.views, config.clip.frames, config.clip.size
    shapes = {"clip": jax.ShapeDtypeStruct((clips, frames, size, size, 3), jnp.uint8)}
    if isinstance(trainer, Finetuning):
        return shapes | {"label": jax.ShapeDtypeStruct((clips,), jnp.int32)}
    masks = trainer.masks
    if (side := masks.given_whole_side(config.data.views)) is not None:
        shapes |= {
            "whole": jax.ShapeDtypeStruct((config.train.batch_size, frames, side, side, 3), jnp.uint8),
            "whole_place": jax.ShapeDtypeStruct((clips, 2, 2), jnp.float32),
        }
    if masks.needs_flow and not masks.runs_raft:
        directions = (2,) if masks.given_both_ways else ()
        pairs = (clips, *directions, frames - 1)
        if masks.flow_on_grid:
            shapes |= {
                "flow": jax.ShapeDtypeStruct((*pairs, _STORED_POINTS, _STORED_POINTS, 2), jnp.uint8),
                "flow_span": jax.ShapeDtypeStruct((*pairs, 2, 2), jnp.float32),
                "flow_place": jax.ShapeDtypeStruct((clips, 2, 2), jnp.float32),
            }
        else:
            shapes["flow"] = jax.ShapeDtypeStruct((*pairs, size, size, 2), jnp.float32)
    return shapes


def place(work: Work, mesh: AnyMesh) -> Placed:
    """The shapes of a step's arguments with the shardings that a run gives them."""
    # An abstract mesh has all that the rules of sharding ask of one.
    shardings = tree_shardings(mesh, work.state)  # type: ignore[arg-type]
    state = jax.tree.map(_sharded, work.state, shardings)
    split, whole = NamedSharding(mesh, PartitionSpec(AXES)), NamedSharding(mesh, PartitionSpec())
    key = jax.eval_shape(lambda: jax.random.key(0))
    return Placed(
        state, _with_sharding(work.frozen, whole), _with_sharding(work.batch, split), _with_sharding(key, whole)
    )


def _with_sharding(tree: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(lambda leaf: _sharded(leaf, sharding), tree)


def _sharded(leaf: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _flow_flops(trainer: Pretraining, frozen: Any, batch: Mapping[str, jax.ShapeDtypeStruct]) -> int:
    """The operations of RAFT alone."""
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch["clip"].shape[0]))
    masks = trainer.masks

    def flow(frozen: Any, batch: Mapping[str, jax.Array], keys: jax.Array) -> jax.Array | None:
        return masks.batch_flow(frozen, masks.share_flow(frozen, batch), keys)

    return count_flops(jax.jit(flow).trace(frozen, batch, keys).jaxpr.jaxpr)
