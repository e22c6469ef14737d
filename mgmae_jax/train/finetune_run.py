"""A whole fine-tuning run: from a config, a pre-trained checkpoint and a workdir to checkpoints and accuracies."""

import sys
from collections.abc import Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from mgmae_jax.data.bad_videos import BadVideos
from mgmae_jax.data.clips import ClipSpec
from mgmae_jax.data.labelled import Augmentation, labelled_batches
from mgmae_jax.data.sources import VideoList
from mgmae_jax.data.train_batches import TrainBatches
from mgmae_jax.errors import ConfigError, MgmaeError
from mgmae_jax.runtime.checkpoint import FOLDER, Checkpoints
from mgmae_jax.runtime.distributed import is_primary
from mgmae_jax.runtime.mesh import make_mesh
from mgmae_jax.runtime.metrics import MetricWriter
from mgmae_jax.runtime.progress import Progress
from mgmae_jax.runtime.rng import stream
from mgmae_jax.runtime.run_info import check_same_config, write_run_info
from mgmae_jax.train import classes as class_list
from mgmae_jax.train.accuracy import BEST, AccuracyHook
from mgmae_jax.train.evaluate_run import build_evaluator
from mgmae_jax.train.from_config import FINETUNE_MACHINE_FIELDS, build_finetuning, epochs_to_steps
from mgmae_jax.train.loop import Run, train
from mgmae_jax.train.pretrained import check_trained_clip, load_encoder
from mgmae_jax.train.state import TrainState, abstract_state, make_sharded
from mgmae_jax.train.videos import find_videos


def run_finetuning(config: ConfigDict, workdir: Path, argv: Sequence[str]) -> None:
    """Fine-tunes, or goes on with the run that the workdir holds.

    Args:
      config: resolved, see configs/finetune/common.py.
      workdir: for config.json, run.json, classes.json, metrics.jsonl, tensorboard/, checkpoints/, best/, accuracy/ and
        bad_videos.jsonl.
      argv: the command, for run.json.

    Raises:
      MgmaeError: anything that the user can mend; the message says how.
    """
    # 1. What is to be done, and may it be done here?
    videos = find_labelled(config)
    finetuning = build_finetuning(config, len(videos))
    augmentation = Augmentation(**config.augment)
    mesh = make_mesh(config.mesh.fsdp)
    batch_size = config.train.batch_size
    if batch_size * config.data.views % mesh.size:
        want = f"a multiple of the number of devices, which is {mesh.size}"
        raise ConfigError("train.batch_size", batch_size, want)
    evaluator = build_evaluator(config, finetuning.model, mesh, videos.class_names)
    check_same_config(workdir, config, FINETUNE_MACHINE_FIELDS)
    check_same_classes(workdir, videos.class_names)

    # 2. The state: from the last checkpoint, with a pre-trained encoder, or new; straight onto the mesh.
    key = jax.random.key(config.seed)
    total = epochs_to_steps(config.train.epochs, len(videos), batch_size)
    with (
        Checkpoints(
            workdir / FOLDER,
            every=config.checkpoint.every,
            keep=config.checkpoint.keep,
            keep_period=config.checkpoint.keep_period,
        ) as checkpoints,
        MetricWriter(workdir, is_primary()) as writer,
    ):
        start = checkpoints.latest_step() or 0
        abstract = abstract_state(lambda: finetuning.init(stream(key, 0, "init")), mesh)
        if start:
            state = checkpoints.restore(abstract, start)
        else:
            encoder = None
            if config.init:
                check_trained_clip(config.init, config)
                encoder = load_encoder(config.init, abstract.params["encoder"])
            state = make_sharded(lambda encoder: finetuning.init(stream(key, 0, "init"), encoder), abstract, encoder)
        if is_primary():  # now that it can start: a workdir is bound to the config that it holds
            write_run_info(workdir, config, argv)
            class_list.write_classes(workdir, videos.class_names)
        writer.truncate_from(start + 1)
        announce(config, videos, state, total, start)

        # 3. The loop.
        every = config.eval.every and max(1, round(config.eval.every * len(videos) / batch_size))
        bad_videos = BadVideos(workdir / "bad_videos.jsonl", len(videos), config.data.max_bad_fraction)
        with AccuracyHook(workdir, evaluator, every=every, total=total, start=start) as accuracy:
            run = Run(
                step=finetuning.step,
                batches=lambda first: open_batches(config, augmentation, videos, first, bad_videos),
                frozen={},
                key=key,
                total_steps=total,
                clips_per_step=batch_size * config.data.views,
                log_every=config.train.log_every,
                max_bad_steps=config.train.max_bad_steps,
                metadata={"classes": len(videos.class_names)},
                hooks=[accuracy],
            )
            if start < total:
                train(run, state, mesh, checkpoints, writer, Progress(total, start) if is_primary() else None)
            else:
                accuracy(start, state)
            step, top1 = accuracy.best()
    if is_primary():
        text = f"best: {top1:.2%} top-1 at step {step}, in {workdir / BEST}; last: step {total}, in {workdir / FOLDER}"
        print(text, file=sys.stderr, flush=True)


def find_labelled(config: ConfigDict) -> VideoList:
    """The training videos, with labels from 0 to `model.classes` - 1 and the classes' names.

    Raises:
      MgmaeError: there are none, they are not labelled, or their classes are not as many as the head's.
    """
    videos = find_videos(config)
    source = config.data.path or "the procedural videos"
    classes = class_list.class_names(videos, config.model.classes)
    videos = class_list.match_classes(videos, classes, source)
    found = len(set(videos.labels))
    if found < config.model.classes:
        want = f"{found}, the number of classes that {source} has videos of"
        raise ConfigError("model.classes", config.model.classes, want)
    return videos


def check_same_classes(workdir: Path, names: tuple[str, ...]) -> None:
    """Sees that a workdir, if it holds a run, holds one of these classes in this order.

    Raises:
      MgmaeError: it is one of others.
    """
    path = workdir / class_list.FILE
    if not path.exists():
        return
    before = class_list.read_names(path)
    if before != names:
        pairs = enumerate(zip(before, names, strict=False))
        differing = [f"; class {i} is {old!r} there, {new!r} now" for i, (old, new) in pairs if old != new]
        raise MgmaeError(
            f"{workdir} holds a run of {len(before)} classes, and the training videos now have {len(names)}"
            f"{''.join(differing[:1])}: give the videos that the run began with, or another --workdir."
        )


def open_batches(
    config: ConfigDict, augmentation: Augmentation, videos: VideoList, first: int, on_bad: BadVideos
) -> TrainBatches:
    """This process's batches from step `first` on."""
    return labelled_batches(
        videos,
        ClipSpec(config.clip.frames, config.clip.stride, config.clip.size),
        config.clip.sampling,
        augmentation,
        batch_size=config.train.batch_size,
        views=config.data.views,
        seed=config.seed,
        workers=config.data.workers,
        start_step=first,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        on_bad=on_bad,
    )


def announce(config: ConfigDict, videos: VideoList, state: TrainState, total: int, start: int) -> None:
    """Says on standard error, in the first process, what is about to run."""
    if not is_primary():
        return
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    devices = f"{jax.device_count()} {jax.devices()[0].device_kind}"
    where = f"encoder from {config.init}" if config.init else "from random parameters"
    if start:
        where = f"going on from step {start}" if start < total else f"finished at step {start}, nothing to do"
    lines = [
        f"{config.model.name}: {parameters:,} parameters; {len(videos.class_names)} classes; {where}",
        f"{len(videos)} videos, {config.train.batch_size} x {config.data.views} clips a step, {total} steps; "
        f"{devices} device(s) in {jax.process_count()} process(es)",
    ]
    print("\n".join(lines), file=sys.stderr, flush=True)
