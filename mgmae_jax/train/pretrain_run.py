"""A whole pre-training run: from a config and a workdir to checkpoints, metrics and pictures."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mgmae_jax.data.bad_videos import BadVideos
from mgmae_jax.data.clips import ClipSpec
from mgmae_jax.data.pipeline import FlowSpec, pretrain_batches
from mgmae_jax.data.sources import VideoList
from mgmae_jax.data.train_batches import TrainBatches
from mgmae_jax.errors import ConfigError, MgmaeError
from mgmae_jax.flow.weights_hash import weights_hash
from mgmae_jax.masking.select import visible_per_tubelet
from mgmae_jax.runtime.checkpoint import FOLDER, Checkpoints
from mgmae_jax.runtime.distributed import is_primary
from mgmae_jax.runtime.mesh import make_mesh, put_batch, put_replicated, replicated
from mgmae_jax.runtime.metrics import MetricWriter
from mgmae_jax.runtime.progress import Progress
from mgmae_jax.runtime.rng import per_example, stream
from mgmae_jax.runtime.run_info import check_same_config, write_json, write_run_info
from mgmae_jax.train.baselines import guess_errors, guess_moments, guess_table
from mgmae_jax.train.from_config import PRETRAIN_MACHINE_FIELDS, build_pretraining, epochs_to_steps
from mgmae_jax.train.loop import Hook, Run, train
from mgmae_jax.train.mask_step import MaskDetails, MaskStep
from mgmae_jax.train.pretrain import Pretraining
from mgmae_jax.train.state import TrainState, abstract_state, make_sharded
from mgmae_jax.train.videos import find_videos, flow_folders

GUESSES = "guesses.json"
_GUESSED_CLIPS = 256  # at least so many
Draw = Callable[[Pretraining, int, np.ndarray, MaskDetails, np.ndarray, np.ndarray | None], None]
"""Draws a preview of host arrays: (what runs, steps done, clip uint8 [T, H, W, 3], mask, reconstruction like the clip,
the same at step 0 if this process was there)."""


def run_pretraining(
    config: ConfigDict, workdir: Path, flow_params: Mapping[str, Any], draw: Draw, argv: Sequence[str]
) -> None:
    """Pre-trains, or goes on with the run that the workdir holds.

    Args:
      config: resolved, see configs/common.py.
      workdir: for config.json, run.json, metrics.jsonl, tensorboard/, checkpoints/, bad_videos.jsonl and previews.
      flow_params: RAFT's parameters, or an empty dict where `flow.source` is another.
      draw: draws previews, in the first process.
      argv: the command, for run.json.

    Raises:
      MgmaeError: anything that the user can mend; the message says how.
    """
    # 1. What is to be done, and may it be done here?
    videos = find_videos(config)
    pretraining = build_pretraining(config, len(videos))
    mesh = make_mesh(config.mesh.fsdp)
    if config.train.batch_size * config.data.views % mesh.size:
        want = f"a multiple of the number of devices, which is {mesh.size}"
        raise ConfigError("train.batch_size", config.train.batch_size, want)
    check_same_config(workdir, config, PRETRAIN_MACHINE_FIELDS)
    if is_primary():
        write_run_info(workdir, config, argv)

    # 2. The state: new, or from the last checkpoint, in either case straight onto the mesh.
    key = jax.random.key(config.seed)
    metadata = {"flow_weights": weights_hash(flow_params) if flow_params else None}
    total = epochs_to_steps(config.train.epochs, len(videos), config.train.batch_size)
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
        if start:
            check_flow_weights(checkpoints.metadata(start), metadata, workdir)
        abstract = abstract_state(lambda: pretraining.init(stream(key, 0, "init")), mesh)
        if start:
            state = checkpoints.restore(abstract, start)
        else:
            state = make_sharded(lambda: pretraining.init(stream(key, 0, "init")), abstract)
        writer.truncate_from(start + 1)
        announce(config, pretraining, videos, state, total, start)
        if start >= total:
            return

        # 3. The loop.
        bad_videos = BadVideos(workdir / "bad_videos.jsonl", len(videos), config.data.max_bad_fraction)
        run = Run(
            step=pretraining.step,
            batches=lambda first: open_batches(config, pretraining.masks, videos, first, bad_videos),
            frozen=flow_params,
            key=key,
            total_steps=total,
            clips_per_step=config.train.batch_size * config.data.views,
            log_every=config.train.log_every,
            max_bad_steps=config.train.max_bad_steps,
            metadata=metadata,
            hooks=[
                preview_hook(config, pretraining, videos, flow_params, key, draw, total),
                guess_hook(config, pretraining, videos, flow_params, key, workdir, total),
            ],
        )
        train(run, state, mesh, checkpoints, writer, Progress(total, start) if is_primary() else None)


def check_flow_weights(saved: Mapping[str, Any], now: Mapping[str, Any], workdir: Path) -> None:
    """Sees that a run goes on with the flow weights it began with.

    Raises:
      MgmaeError: they are others.
    """
    if saved.get("flow_weights") != now["flow_weights"]:
        raise MgmaeError(
            f"{workdir} holds a run with flow weights {saved.get('flow_weights')}, and config.flow.weights are "
            f"{now['flow_weights']} (hashes): give the same weights, or another --workdir."
        )


def flow_spec(config: ConfigDict, masks: MaskStep) -> FlowSpec | None:
    """What flow the data workers are to compute or read."""
    source = masks.flow.source
    if source not in ("tvl1", "stored") or not masks.mask.needs_flow:
        return None
    base = {"middle": masks.grid.frames // 2, "first": 0, "random": None}[masks.mask.base_frame]
    root, folder = flow_folders(config)
    return FlowSpec(base, masks.mask.direction, masks.flow.tvl1_fast, source, root, folder)


def open_batches(
    config: ConfigDict,
    masks: MaskStep,
    videos: VideoList,
    first: int,
    on_bad: Callable[[str, str], None],
    **changes: int,
) -> TrainBatches:
    """This process's batches from step `first` on; `changes` go to `pretrain_batches` before what the config says."""
    options = {
        "batch_size": config.train.batch_size,
        "views": config.data.views,
        "workers": config.data.workers,
        "process_index": jax.process_index(),
        "process_count": jax.process_count(),
    }
    return pretrain_batches(
        videos,
        ClipSpec(config.clip.frames, config.clip.stride, config.clip.size),
        seed=config.seed,
        start_step=first,
        flow=flow_spec(config, masks),
        on_bad=on_bad,
        **options | changes,
    )


def preview_hook(
    config: ConfigDict,
    pretraining: Pretraining,
    videos: VideoList,
    flow_params: Mapping[str, Any],
    key: jax.Array,
    draw: Draw,
    total: int,
) -> Hook:
    """Draws the data's first clip, always with the same mask: before the first step, at intervals, at the end."""
    example: dict[str, np.ndarray] = {}
    untrained: list[np.ndarray] = []

    @jax.jit
    def reconstruct(params: Any, flow_params: Any, clip: jax.Array, flow: jax.Array | None, key: jax.Array) -> Any:
        return pretraining.reconstruct(params, flow_params, clip, flow, stream(key, 0, "mask"))

    def hook(done: int, state: TrainState) -> None:
        if done not in (0, total) and not (config.preview.every and done % config.preview.every == 0):
            return
        if not example:
            one = {"batch_size": 1, "views": 1, "workers": 0, "process_index": 0, "process_count": 1}
            # A bad video is told of when the run itself comes to it.
            with open_batches(config, pretraining.masks, videos, 0, lambda path, reason: None, **one) as batches:
                example.update({name: array[0] for name, array in next(batches).items()})
        mesh = state.step.sharding.mesh
        inputs = put_replicated((flow_params, example["clip"], example.get("flow"), key), mesh)
        details, clip = jax.device_get(reconstruct(state.params, *inputs))
        if is_primary():
            draw(pretraining, done, example["clip"], details, clip, untrained[0] if untrained else None)
            if done == 0:
                untrained.append(clip)

    return hook


def guess_hook(
    config: ConfigDict,
    pretraining: Pretraining,
    videos: VideoList,
    flow_params: Mapping[str, Any],
    key: jax.Array,
    workdir: Path,
    total: int,
) -> Hook:
    """At the end of the run, compares the network with what can be guessed without one; see `measure_guesses`."""

    def hook(done: int, state: TrainState) -> None:
        if done != total:
            return
        mesh = state.step.sharding.mesh
        errors = measure_guesses(config, pretraining, videos, state.params, flow_params, key, mesh, total)
        if is_primary():
            write_json(workdir / GUESSES, errors)
            print(f"\n{guess_table(errors)}", file=sys.stderr, flush=True)

    return hook


def measure_guesses(
    config: ConfigDict,
    pretraining: Pretraining,
    videos: VideoList,
    params: Any | None,
    flow_params: Mapping[str, Any],
    key: jax.Array,
    mesh: Mesh,
    first: int,
) -> dict[str, float]:
    """The errors of `baselines.guess_errors` on the clips that step `first` and those after it would see.

    No crop or mask of them was trained on before step `first`. To be called by every process.

    Args:
      config: of the run.
      pretraining: of the config.
      videos: of the run.
      params: of the model, on the mesh; None leaves the network out.
      flow_params: RAFT's parameters, or an empty dict.
      key: the run's root key.
      mesh: of devices.
      first: a step.
    """
    batches = -(-_GUESSED_CLIPS // (config.train.batch_size * config.data.views))

    def moments(params: Any | None, flow_params: Any, batch: Mapping[str, jax.Array], key: jax.Array) -> Any:
        return guess_moments(pretraining, params, flow_params, batch, per_example(key, 0, batch["clip"].shape[0]))

    jitted = jax.jit(moments, out_shardings=replicated(mesh))
    flow_params = put_replicated(flow_params, mesh)
    parts = []
    with open_batches(config, pretraining.masks, videos, first, lambda path, reason: None) as reader:
        for step in range(first, first + batches):
            keys = put_replicated(stream(key, step, "mask"), mesh)
            parts.append(jax.device_get(jitted(params, flow_params, put_batch(next(reader), mesh), keys)))
    return guess_errors(parts)


def announce(
    config: ConfigDict, pretraining: Pretraining, videos: VideoList, state: TrainState, total: int, start: int
) -> None:
    """Says on standard error, in the first process, what is about to run."""
    if not is_primary():
        return
    grid, masks = pretraining.grid, pretraining.masks
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    visible = visible_per_tubelet(masks.mask.ratio, grid) * grid.tubelets
    flow = f", flow by {masks.flow.source}" if masks.mask.needs_flow else ""
    devices = f"{jax.device_count()} {jax.devices()[0].device_kind}"
    where = f"going on from step {start}" if start else "from the start"
    if start >= total:
        where = f"finished at step {start}, nothing to do"
    lines = [
        f"{config.model.name}: {parameters:,} parameters; {visible} of {grid.tokens} tokens visible, "
        f"masks by {masks.mask.strategy}{flow}",
        f"{len(videos)} videos, {config.train.batch_size} x {config.data.views} clips a step, {total} steps, {where}; "
        f"{devices} device(s) in {jax.process_count()} process(es)",
    ]
    print("\n".join(lines), file=sys.stderr, flush=True)
