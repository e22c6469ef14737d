"""Fine-tuning: the loss of a labelled batch, the one jitted step around it, and a whole run."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from absl import logging
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key, UInt8
from ml_collections import ConfigDict

from mgmae_jax.data.batches import TrainBatches
from mgmae_jax.data.finetune_clips import Augmentation, labelled_batches
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.sources import LabelledVideos, composed
from mgmae_jax.datasets.find import find_videos
from mgmae_jax.errors import ConfigError, MgmaeError
from mgmae_jax.evaluate.classes import CLASSES_FILE, class_names, match_classes, read_names, write_classes
from mgmae_jax.evaluate.run import build_evaluator
from mgmae_jax.models.classifier import Classifier, build_classifier
from mgmae_jax.ops.apply import apply_module
from mgmae_jax.ops.tokens import normalise_cubes, patchify, take_tokens, unit_range
from mgmae_jax.runtime.checkpoint import FOLDER, saved_steps
from mgmae_jax.runtime.config_checks import (
    CLIP_MINIMA,
    check_accumulation,
    check_kind,
    check_minima,
    check_positive,
    check_shares,
    profile_steps,
)
from mgmae_jax.runtime.distributed import is_primary
from mgmae_jax.runtime.mesh import check_divides, make_mesh
from mgmae_jax.runtime.rng import per_example, stream
from mgmae_jax.runtime.session import MACHINE_FIELDS, open_run
from mgmae_jax.runtime.weights import Checkpoint
from mgmae_jax.train.accuracy import BEST, AccuracyHook
from mgmae_jax.train.bad_videos import SharedBadVideos
from mgmae_jax.train.clips import batch_spec, list_name
from mgmae_jax.train.loop import run_hooks, train
from mgmae_jax.train.mixing import Mixing, MixOptions, draw_mixing, mix_clips, soft_labels
from mgmae_jax.train.optim import (
    Schedule,
    adamw_direction,
    build_schedule,
    epochs_to_steps,
    layer_scales,
    loss_and_grad,
)
from mgmae_jax.train.pretrained import load_init
from mgmae_jax.train.state import TrainState, apply_update, create

FINETUNE_MACHINE_FIELDS = (
    *MACHINE_FIELDS, "data.allow_missing", "eval.clips_per_device", "eval.every", "eval.path", "init"
)  # fmt: skip
"""Those for fine-tuning."""
_MINIMA = {**CLIP_MINIMA, "eval.every": 0}


class Examples(NamedTuple):
    """Clips, each with the one that it is mixed with, and the keys for dropout and, where tokens are hidden, masks."""

    clip: UInt8[Array, "B T H W 3"]
    label: Int[Array, "B"]
    partner: UInt8[Array, "B T H W 3"]
    partner_label: Int[Array, "B"]
    drop_path: Key[Array, "B"]
    dropout: Key[Array, "B"]
    mask: Key[Array, "B"] | None = None


@dataclasses.dataclass(frozen=True)
class Finetuning:
    """The parts of a fine-tuning run.

    Args:
      model: the classifier.
      mix: mixup, cutmix and label smoothing.
      optimiser: computes the direction of each update.
      schedule: the learning rate of each step.
      accumulate: the number of parts in which a batch is processed, one after another, for one update.
      ema_decay: the decay of the average of the parameters; 0 keeps none.
      hidden_weight: the weight of the error of the hidden cubes in the loss, for a model with a decoder.
    """

    model: Classifier
    mix: MixOptions
    optimiser: optax.GradientTransformation
    schedule: Schedule
    accumulate: int = 1
    ema_decay: float = 0.0
    hidden_weight: float = 0.0

    def init(self, key: Key[Array, ""], pretrained: Mapping[str, Any] | None = None) -> TrainState:
        """The state before the first step; float32 parameters.

        Args:
          key: the parameters are drawn from it.
          pretrained: parameters to take instead by the names of their parts, see `load_pretrained`; None draws all.
        """
        grid = self.model.grid
        clips = jnp.zeros((1, grid.frames, grid.height, grid.width, 3), jnp.uint8)
        if self.model.decoder_depth:
            method = self.model.classify_and_predict
            params = self.model.init(key, clips, None, None, jax.random.split(key, 1), method=method)["params"]
        else:
            params = self.model.init(key, clips)["params"]
        if pretrained is not None:
            params = params | pretrained
        return create(params, self.optimiser, ema=self.ema_decay > 0)

    def step(
        self, state: TrainState, frozen: Any, batch: Mapping[str, Array], key: Key[Array, ""]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One step: mixing, loss, gradient, update. To be jitted, with `state` donated.

        Args:
          state: the state before the step.
          frozen: nothing; every trainer's step takes it.
          batch: "clip" uint8 [B, T, H, W, 3] and "label" int32 [B]; the leading axis is the global batch.
          key: the run's root key.

        Returns:
          The state after the step and its metrics (scalars).
        """
        clip, label = batch["clip"], batch["label"]
        with jax.named_scope("mixing"):
            drawn = ("drop_path", "dropout", "mask") if self.model.hidden else ("drop_path", "dropout")
            # A batch is mixed with itself in reverse order; one draw serves the whole batch.
            examples = Examples(
                clip,
                label,
                clip[::-1],
                label[::-1],
                *(per_example(stream(key, state.step, name), 0, len(label)) for name in drawn),
            )
            mixing = None
            if self.mix.mixes:
                grid = self.model.grid
                mixing = draw_mixing(stream(key, state.step, "mixup"), self.mix, grid.height, grid.width)
        loss, grads = loss_and_grad(
            lambda params, part: self.loss(params, part, mixing), state.params, examples, self.accumulate
        )
        with jax.named_scope("update"):
            return apply_update(state, self.optimiser, loss, grads, self.schedule(state.step), self.ema_decay)

    def loss(self, params: Any, examples: Examples, mixing: Mixing | None) -> Float[Array, ""]:
        """The cross-entropy of examples, mixed as `mixing` says, against their smoothed labels.

        With a decoder, plus `hidden_weight` times the mean squared error of the hidden cubes of the mixed clips, each
        cube and channel normalised (MAR).
        """
        clips = unit_range(examples.clip)
        share: Array | float = 1.0
        if mixing is not None:
            clips, share = mix_clips(clips, unit_range(examples.partner), mixing), mixing.share
        keys, hidden_error = (examples.drop_path, examples.dropout, examples.mask), None
        with jax.named_scope("model"):
            if self.model.decoder_depth:
                method = self.model.classify_and_predict
                outputs: Any = self.model.apply({"params": params}, clips, *keys, method=method)
                logits, prediction, hidden = outputs
                cubes = normalise_cubes(take_tokens(patchify(clips, self.model.grid), hidden))
                hidden_error = jnp.square(prediction - cubes).mean()
            else:
                logits = apply_module(self.model, params, clips, *keys)
        target = soft_labels(examples.label, examples.partner_label, share, self.model.classes, self.mix.smoothing)
        loss = -(target * jax.nn.log_softmax(logits)).sum(axis=-1).mean()
        return loss if hidden_error is None else loss + self.hidden_weight * hidden_error


def check_finetuning(config: ConfigDict) -> None:
    """Checks the fields that the model and the mixing do not check themselves.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    check_kind(config, "finetune")
    check_minima(config, _MINIMA)
    check_positive(config, "optim.lr")
    check_shares(config, "train.ema_decay")
    check_accumulation(config)
    profile_steps(config)
    if not 0 < config.optim.layer_decay <= 1:
        raise ConfigError("optim.layer_decay", config.optim.layer_decay, "a number above 0, up to 1")


def build_finetuning(config: ConfigDict, videos: int) -> Finetuning:
    """The classifier and optimiser of a fine-tuning run over `videos` videos.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    check_finetuning(config)
    model, optim = build_classifier(config), config.optim
    optimiser = adamw_direction(
        b1=optim.b1,
        b2=optim.b2,
        weight_decay=optim.weight_decay,
        scales=functools.partial(layer_scales, depth=model.variant.depth, decay=optim.layer_decay),
    )
    return Finetuning(
        model=model,
        mix=MixOptions(**config.mix),
        optimiser=optimiser,
        schedule=build_schedule(config, videos),
        accumulate=config.train.accumulate,
        ema_decay=config.train.ema_decay,
        hidden_weight=config.mask.loss_weight,
    )


def run_finetuning(
    config: ConfigDict,
    workdir: Path,
    argv: Sequence[str],
    allow_change: Sequence[str] = (),
    open_init: Callable[[str], Checkpoint] = Path,
) -> None:
    """Fine-tunes, or resumes the run that the workdir holds.

    Args:
      config: the resolved config, see configs/finetune/common.py.
      workdir: the run's folder, for config.json, run.json, classes.json, metrics.jsonl, tensorboard/, checkpoints/,
        best/, accuracy/ and bad_videos.jsonl.
      argv: the command, for run.json.
      allow_change: see `open_run`.
      open_init: from `config.init` to what `restore_params` reads; called for a new run.

    Raises:
      MgmaeError: anything that the user can fix; the message says how.
    """
    check_finetuning(config)  # before the videos, which may take a while to prepare
    augmentation = Augmentation(**config.augment)
    mesh = make_mesh(config.mesh.fsdp)
    batch_size = config.train.batch_size
    clips = batch_size * config.data.views
    check_divides("train.batch_size", batch_size, mesh, config.data.views)
    videos = find_labelled(config)
    finetuning = build_finetuning(config, len(videos))
    evaluator = build_evaluator(config, finetuning.model, mesh, videos.class_names)
    if saved_steps(workdir):
        check_same_classes(workdir, videos.class_names)
    total = epochs_to_steps(config.train.epochs, len(videos), batch_size)
    source: dict[str, Any] = {}
    with open_run(
        workdir,
        config,
        argv,
        finetuning.init,
        total,
        mesh,
        machine_fields=FINETUNE_MACHINE_FIELDS,
        identity={
            "classes": len(videos.class_names),
            "video_list": list_name(videos),
            "test_list": list_name(evaluator.videos),
        },
        load=functools.partial(load_init, config, open_init, source) if config.init else None,
        allow_change=allow_change,
        weights=source,
    ) as opened:
        if is_primary():
            write_classes(workdir, videos.class_names)
        opened.announce(
            f"{config.model.name}: {len(videos.class_names)} classes",
            f"{len(videos)} videos, {clips} clips a step",
            f"encoder from {config.init}" if config.init else "from scratch",
        )
        every = config.eval.every and max(1, round(config.eval.every * len(videos) / batch_size))
        bad_videos = SharedBadVideos(workdir, len(videos), config.data.max_bad_fraction, new=not opened.start)
        hook = AccuracyHook(
            workdir,
            evaluator,
            every=every,
            total=total,
            start=opened.start,
            preempted=opened.checkpoints.preempted,
        )
        with hook as accuracy:
            if opened.finished:
                run_hooks(opened, [accuracy], opened.start, opened.state)
            else:
                train(
                    opened,
                    finetuning,
                    lambda first: open_labelled(config, augmentation, videos, first, bad_videos, mesh),
                    config,
                    frozen={},
                    clips_per_step=clips,
                    hooks=[bad_videos.hook, accuracy],
                    progress=opened.progress(),
                )
            step, top1 = accuracy.best()
    if is_primary():
        text = f"best: {top1:.2%} top-1 at step {step}, in {workdir / BEST}"
        print(f"{text}; last: step {opened.start}, in {workdir / FOLDER}", file=sys.stderr, flush=True)


def find_labelled(config: ConfigDict) -> LabelledVideos:
    """The training videos, with labels from 0 to `model.classes` - 1. Warns of classes without videos.

    Raises:
      MgmaeError: there are none, they are not labelled, or their classes are not those of the head.
    """
    listed, count = find_videos(config), config.model.classes
    source = config.data.path or "the procedural videos"
    videos = match_classes(listed, class_names(listed, count, source), source)
    empty = count - len(set(videos.labels))
    if empty:
        logging.warning("%d of %d classes have no training video in %s", empty, count, source)
    return videos


def check_same_classes(workdir: Path, names: tuple[str, ...]) -> None:
    """Checks that a workdir is new, or holds a run of these classes in this order.

    Raises:
      MgmaeError: it holds a run of others.
    """
    path = workdir / CLASSES_FILE
    if not path.exists():
        return
    before = read_names(path)
    if [composed(name) for name in before] != [composed(name) for name in names]:
        pairs = enumerate(zip(before, names, strict=False))
        differing = [f"; class {i} is {old!r} there, {new!r} now" for i, (old, new) in pairs if old != new]
        raise MgmaeError(
            f"{workdir} holds a run of {len(before)} classes, and the training videos now have {len(names)}"
            f"{''.join(differing[:1])}: give the videos that the run began with, or another --workdir."
        )


def open_labelled(
    config: ConfigDict,
    augmentation: Augmentation,
    videos: LabelledVideos,
    first: int,
    on_bad: SharedBadVideos,
    mesh: Mesh,
) -> TrainBatches:
    """This process's batches from step `first` on."""
    return labelled_batches(
        videos,
        ClipSpec(config.clip.frames, config.clip.stride, config.clip.size),
        config.clip.sampling,
        augmentation,
        batch_spec(config, mesh),
        start_step=first,
        on_bad=on_bad,
    )
