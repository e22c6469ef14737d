"""Masked pre-training: the loss of a batch, the one jitted step around it, and a whole run."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, UInt8
from ml_collections import ConfigDict

from mgmae_jax.flow.weights_hash import weights_hash
from mgmae_jax.masking.select import visible_per_tubelet
from mgmae_jax.models.mae import MaskedAutoencoder, build_autoencoder
from mgmae_jax.ops.apply import apply_module
from mgmae_jax.ops.tokens import (
    TokenGrid,
    TokenSplit,
    normalise_pixels,
    patchify,
    take_tokens,
    unit_range,
    unpatchify,
)
from mgmae_jax.runtime.config_checks import (
    CLIP_MINIMA,
    check_accumulation,
    check_kind,
    check_minima,
    check_positive,
    profile_steps,
)
from mgmae_jax.runtime.distributed import from_primary
from mgmae_jax.runtime.mesh import check_divides, make_mesh
from mgmae_jax.runtime.rng import STREAMS, named_key, per_example, stream
from mgmae_jax.runtime.session import MACHINE_FIELDS, open_run
from mgmae_jax.train.loop import run_hooks, train
from mgmae_jax.train.masks import MaskDetails, MaskStep, build_mask_step
from mgmae_jax.train.optim import Schedule, build_optimiser, build_schedule, epochs_to_steps, loss_and_grad
from mgmae_jax.train.state import TrainState, apply_update, create
from mgmae_jax.train.targets import TARGETS, Target, find_target

if TYPE_CHECKING:
    from mgmae_jax.train.previews import Draw

PRETRAIN_MACHINE_FIELDS = (*MACHINE_FIELDS, "flow.weights", "flow.path", "preview", "data.cache", "data.cache_gib")
"""Those for pre-training; a checkpoint records the hash of the flow weights, wherever their file is."""
_MINIMA = {**CLIP_MINIMA, "model.decoder_depth": 1, "preview.every": 0}
_GREY = 0.5
Batch = Mapping[str, Array]


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """The parts of a pre-training run.

    Args:
      model: the masked autoencoder.
      masks: the masking step.
      optimiser: computes the direction of each update.
      schedule: the learning rate of each step.
      accumulate: the number of parts in which a batch is processed, one after another, for one update.
      target: what is predicted for the hidden cubes.
    """

    model: MaskedAutoencoder
    masks: MaskStep
    optimiser: optax.GradientTransformation
    schedule: Schedule
    accumulate: int = 1
    target: Target = TARGETS["normalised"]

    @property
    def grid(self) -> TokenGrid:
        """How clips are cut."""
        return self.masks.grid

    def init(self, key: Key[Array, ""]) -> TrainState:
        """The state before the first step; float32 parameters drawn from `key`."""
        visible = visible_per_tubelet(self.masks.mask.ratio, self.grid) * self.grid.tubelets
        split = TokenSplit(jnp.zeros((1, visible), jnp.int32), jnp.zeros((1, self.grid.tokens - visible), jnp.int32))
        params = self.model.init(key, jnp.zeros((1, visible, self.grid.cube_values)), split)["params"]
        own = self.masks.init(named_key(key, "mask", STREAMS), self.model.variant.width)
        return create({**params, **own}, self.optimiser)

    def step(
        self, state: TrainState, frozen: Any, batch: Batch, key: Key[Array, ""]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One step: flow, masks, loss, gradient, update; see `loop.Trainer`.

        Args:
          state: the state before the step.
          frozen: RAFT's parameters, or an empty dict.
          batch: see `MaskStep.__call__`; the leading axis is the global batch.
          key: the run's root key.
        """
        # A clip's mask depends only on its place in the global batch, so that no split over devices changes it.
        keys = per_example(stream(key, state.step, "mask"), 0, batch["clip"].shape[0])
        weighted = self.masks.decoder_mask is not None  # the number of values in the loss differs from clip to clip
        loss = functools.partial(self.loss_and_weight if weighted else self.loss, flow_params=frozen)
        shared = self.masks.share_flow(frozen, batch)
        value, grads = loss_and_grad(loss, state.params, (shared, keys), self.accumulate, weighted=weighted)
        with jax.named_scope("update"):
            return apply_update(state, self.optimiser, value, grads, self.schedule(state.step))

    def loss(self, params: Any, examples: tuple[Batch, Key[Array, "B"]], flow_params: Any) -> Float[Array, ""]:
        """The mean squared error over the target tokens and their values (section 3.1), plus what the strategy adds.

        With a mask of the decoder's, it is the mean over those targets of the batch that the encoder does not see
        (VideoMAE V2, dual masking).

        Args:
          params: the model's parameters.
          examples: a batch, and the keys that its masks are drawn from.
          flow_params: RAFT's parameters, or an empty dict.
        """
        return self.loss_and_weight(params, examples, flow_params)[0]

    def loss_and_weight(
        self, params: Any, examples: tuple[Batch, Key[Array, "B"]], flow_params: Any
    ) -> tuple[Float[Array, ""], Float[Array, ""] | None]:
        """The loss, and the number of tokens that it is the mean over; None where that is the same for every mask.

        The arguments are those of `loss`.
        """
        batch, keys = examples
        clips = batch["clip"]
        asked = self.masks.ask(params, clips, self.masks.batch_flow(flow_params, batch, keys), keys)
        split = self.masks.draw(asked)
        with jax.named_scope("cubes"):
            visible = normalise_pixels(unit_range(take_tokens(patchify(clips, self.grid), split.visible)))
            target = self.target.values(clips, split.target, self.grid)
        with jax.named_scope("model"):
            prediction = apply_module(self.model, params, visible, split)
        errors = jnp.square(prediction - target).mean(axis=-1)
        measured = self.masks.measured(split)
        if measured is not None:
            return errors.mean(where=measured), measured.sum(dtype=jnp.float32)
        return errors.mean() + self.masks.auxiliary_loss(asked, split, errors), None

    def reconstruct(
        self,
        params: Any,
        flow_params: Any,
        clip: UInt8[Array, "T H W 3"],
        given_flow: Any,
        key: Key[Array, ""],
    ) -> tuple[MaskDetails, UInt8[Array, "T H W 3"]]:
        """The mask of one clip, and the clip with its hidden cubes predicted, as drawn by `Target.draw`.

        Hidden cubes that are not predicted are grey.
        """
        details = self.masks.details(flow_params, key, clip, given_flow, params)
        split = jax.tree.map(lambda index: index[None], details.split)
        cubes = unit_range(patchify(clip, self.grid))[None]
        visible = normalise_pixels(take_tokens(cubes, split.visible))
        prediction = apply_module(self.model, params, visible, split)
        restored = self.target.draw(prediction, take_tokens(cubes, split.target), self.grid)
        # Visible ones last: some of them may be predicted as well.
        whole = jnp.full_like(cubes[0], _GREY).at[details.split.target].set(restored[0])
        whole = unpatchify(whole.at[details.split.visible].set(take_tokens(cubes, split.visible)[0]), self.grid)
        return details, jnp.round(whole * 255).astype(jnp.uint8)


def check_pretraining(config: ConfigDict) -> None:
    """Checks the fields that the model, the masks and the optimiser do not check themselves.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    check_kind(config, "pretrain")
    check_minima(config, _MINIMA)
    check_positive(config, "optim.lr")
    check_accumulation(config)
    profile_steps(config)


def build_pretraining(config: ConfigDict, videos: int) -> Pretraining:
    """The model, masks and optimiser of a run over `videos` videos.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    check_pretraining(config)
    masks = build_mask_step(config)
    target = find_target(config.loss.target)
    return Pretraining(
        model=build_autoencoder(config, masks.grid, target.width(masks.grid)),
        masks=masks,
        optimiser=build_optimiser(config),
        schedule=build_schedule(config, videos),
        accumulate=config.train.accumulate,
        target=target,
    )


def run_pretraining(
    config: ConfigDict,
    workdir: Path,
    flow_params: Mapping[str, Any],
    draw: "Draw",
    argv: Sequence[str],
    allow_change: Sequence[str] = (),
) -> None:
    """Pre-trains, or resumes the run that the workdir holds.

    Args:
      config: the resolved config, see configs/pretrain/common.py.
      workdir: the run's folder, for config.json, run.json, metrics.jsonl, tensorboard/, checkpoints/, bad_videos.jsonl
        and previews.
      flow_params: RAFT's parameters, or an empty dict if `flow.source` is not raft.
      draw: draws previews, in the first process.
      argv: the command, for run.json.
      allow_change: see `open_run`.

    Raises:
      MgmaeError: anything that the user can fix; the message says how.
    """
    # Here, so that a machine which only measures the step needs no video reader.
    from mgmae_jax.train.bad_videos import SharedBadVideos
    from mgmae_jax.train.baselines import GUESSES, guess_hook
    from mgmae_jax.train.clips import batch_spec, find_clips, list_name, open_clips
    from mgmae_jax.train.previews import preview_hook

    check_pretraining(config)  # before the videos, which may take a while to prepare
    mesh = make_mesh(config.mesh.fsdp)
    clips = config.train.batch_size * config.data.views
    check_divides("train.batch_size", config.train.batch_size, mesh, config.data.views)
    if build_mask_step(config).given_whole_side(config.data.views) is not None:
        check_divides("train.batch_size", config.train.batch_size, mesh)  # a clip's views lie on one device
    videos = find_clips(config)
    pretraining = build_pretraining(config, len(videos))
    total = epochs_to_steps(config.train.epochs, len(videos), config.train.batch_size)
    identity = {
        "flow_weights": weights_hash(flow_params) if flow_params else None,
        "video_list": list_name(videos),
    }
    with open_run(
        workdir,
        config,
        argv,
        pretraining.init,
        total,
        mesh,
        machine_fields=PRETRAIN_MACHINE_FIELDS,
        identity=identity,
        allow_change=allow_change,
    ) as opened:
        opened.announce(describe(config, pretraining), f"{len(videos)} videos, {clips} clips a step")
        guess = guess_hook(config, pretraining, videos, flow_params, opened)
        if opened.finished:
            if not from_primary((workdir / GUESSES).exists()):  # interrupted after its last checkpoint
                run_hooks(opened, [guess], opened.start, opened.state)
            return
        bad_videos = SharedBadVideos(workdir, len(videos), config.data.max_bad_fraction, new=not opened.start)
        spec = batch_spec(config, mesh)
        train(
            opened,
            pretraining,
            lambda first: open_clips(config, pretraining.masks, videos, first, bad_videos, spec),
            config,
            frozen=flow_params,
            clips_per_step=clips,
            hooks=[
                bad_videos.hook,
                preview_hook(config, pretraining, videos, flow_params, opened, draw),
                guess,
            ],
            progress=opened.progress(),
        )


def describe(config: ConfigDict, pretraining: Pretraining) -> str:
    """One line on the model and its masks."""
    grid, masks = pretraining.grid, pretraining.masks
    visible = visible_per_tubelet(masks.mask.ratio, grid) * grid.tubelets
    flow = f", flow by {masks.flow.source}" if masks.needs_flow else ""
    text = f"{config.model.name}: {visible} of {grid.tokens} tokens visible, masks by {masks.mask.strategy}{flow}"
    if masks.decoder_mask is None:
        return text
    return f"{text}, {masks.mask.decoder_ratio:.0%} not decoded, by {masks.mask.decoder}"
