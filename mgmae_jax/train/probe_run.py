"""A whole probe: from a checkpoint and labelled videos to features, a small model and a report."""

import functools
import math
from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array
from ml_collections import ConfigDict

from mgmae_jax.data.sources import VideoList
from mgmae_jax.data.views import ViewSpec
from mgmae_jax.errors import ConfigError
from mgmae_jax.models.probes import AttentiveProbe, LinearProbe
from mgmae_jax.runtime.checkpoint import FOLDER, Checkpoints
from mgmae_jax.runtime.distributed import barrier, is_primary
from mgmae_jax.runtime.mesh import make_mesh, put_replicated
from mgmae_jax.runtime.metrics import MetricWriter
from mgmae_jax.runtime.progress import Progress
from mgmae_jax.runtime.rng import stream
from mgmae_jax.runtime.run_info import check_same_config, write_run_info
from mgmae_jax.train.classes import class_names, match_classes
from mgmae_jax.train.evaluate_run import Draw, write_results
from mgmae_jax.train.features import VideoFeatures, extract
from mgmae_jax.train.from_config import build_schedule, epochs_to_steps
from mgmae_jax.train.frozen import FrozenEncoder, What, load_frozen
from mgmae_jax.train.loop import Run, train
from mgmae_jax.train.optim import adamw_direction
from mgmae_jax.train.predictions import FILE, PredictionFile, Predictions
from mgmae_jax.train.probe import Probing, Scaling, best_classes, feature_batches, neighbour_shares, unit_length
from mgmae_jax.train.report import Report, make_report, split_hash
from mgmae_jax.train.state import abstract_state, make_sharded
from mgmae_jax.train.videos import find_videos

KINDS = ("linear", "attentive", "knn")
ENCODERS = ("trained", "random")
POOLS: Mapping[str, What] = {"clip": "pooled", "tubelet": "tubelets"}
MACHINE_FIELDS = (
    "data.workers",
    "data.allow_missing",
    "eval.clips_per_device",
    "train.log_every",
    "checkpoint",
    "mesh",
    "compile_cache",
    "evaluated.checkpoint",
)
"""Fields that do not change the result: a probe may go on with others. (A checksum tells the encoders apart.)"""

_LEAST = {
    "seed": 0,
    "probe.neighbours": 1,
    "optim.min_lr": 0,
    "optim.warmup_epochs": 0,
    "optim.weight_decay": 0,
    "train.batch_size": 1,
    "train.log_every": 1,
    "train.max_bad_steps": 1,
    "checkpoint.every": 1,
    "checkpoint.keep": 1,
}


def run_probe(
    config: ConfigDict,
    run_config: ConfigDict,
    checkpoint: Path,
    out: Path,
    cache: Path,
    draw: Draw,
    argv: Sequence[str],
) -> Report:
    """Probes a checkpoint's encoder, or goes on with the probe that the folder holds.

    Args:
      config: of the probe, see configs/probe/common.py.
      run_config: of the run that the checkpoint belongs to.
      checkpoint: as for `find_checkpoint`; of a pre-trained or a fine-tuned model.
      out: for report.json, predictions.csv, confusion.csv, confusion.png, metrics and the probe's own checkpoints.
      cache: for features.
      draw: draws the confusion matrix, in the first process.
      argv: the command, for run.json.

    Raises:
      MgmaeError: anything that the user can mend; the message says how.
    """
    # 1. The encoder and the videos.
    check_probe(config)
    mesh = make_mesh(config.mesh.fsdp)
    if config.train.batch_size % mesh.size:
        want = f"a multiple of the number of devices, which is {mesh.size}"
        raise ConfigError("train.batch_size", config.train.batch_size, want)
    videos, tests = find_both(config)
    encoder = load_frozen(run_config, checkpoint, mesh, trained=config.probe.encoder == "trained")
    views, test_views = (
        ViewSpec(encoder.clip, part.sampling, part.clips, part.crops) for part in (config.views, config.eval)
    )

    # 2. May it be done here?
    about = {**encoder.about, "split": split_hash(tests), "training_split": split_hash(videos)}
    stated = ConfigDict({**config.to_dict(), "evaluated": about})
    check_same_config(out, stated, MACHINE_FIELDS, "--out")
    barrier("probe checked")
    if is_primary():
        about |= {"config": config.to_dict(), "run": write_run_info(out, stated, argv)}

    # 3. Features, from the cache where they are there.
    take = functools.partial(
        extract,
        encoder,
        what="tokens" if config.probe.kind == "attentive" else POOLS[config.probe.pool],
        mesh=mesh,
        cache=cache,
        workers=config.data.workers,
        clips_per_device=config.eval.clips_per_device,
        allow_missing=config.data.allow_missing,
    )
    train_features, test_features = take(videos, views), take(tests, test_views)

    # 4. What they tell of the classes.
    if config.probe.kind == "knn":
        best, probabilities = vote(config, train_features, test_features, mesh)
    else:
        best, probabilities = train_probe(config, encoder, train_features, test_features, mesh, out)
    predictions = Predictions.none(test_features.videos)
    predictions.fill(np.arange(len(best)), best, probabilities)
    report = make_report(
        predictions, test_features.missing, {**about, "missing_in_training": len(train_features.missing)}
    )
    if is_primary():
        (out / FILE).unlink(missing_ok=True)
        PredictionFile(out / FILE, predictions)
        write_results(out, report, predictions, draw, f"{config.probe.kind} probe of {checkpoint}")
    return report


def check_probe(config: ConfigDict) -> None:
    """Sees that the fields have values that can work.

    Raises:
      ConfigError: one has not.
    """
    if config.probe.kind not in KINDS:
        raise ConfigError("probe.kind", config.probe.kind, "one of " + ", ".join(KINDS))
    if config.probe.encoder not in ENCODERS:
        raise ConfigError("probe.encoder", config.probe.encoder, "one of " + ", ".join(ENCODERS))
    if config.probe.pool not in POOLS:
        raise ConfigError("probe.pool", config.probe.pool, "one of " + ", ".join(POOLS))
    for field, least in _LEAST.items():
        if not least <= attrgetter(field)(config) < math.inf:
            raise ConfigError(field, attrgetter(field)(config), f"{least} or more")
    for field in ("probe.temperature", "optim.lr"):
        if not 0 < attrgetter(field)(config) < math.inf:
            raise ConfigError(field, attrgetter(field)(config), "a number above 0")


def find_both(config: ConfigDict) -> tuple[VideoList, VideoList]:
    """The videos to learn from and those to be measured on, with the classes of the former.

    Raises:
      MgmaeError: there are none, they are not labelled, or the test videos are of other classes.
    """
    videos = find_videos(config)
    count = len(videos.class_names or ()) or max(videos.labels or (0,)) + 1
    names = class_names(videos, count)
    videos = match_classes(videos, names, config.data.path or "the procedural videos")
    return videos, match_classes(find_videos(config, "test"), names, config.eval.path or "the procedural test videos")


def vote(config: ConfigDict, known: VideoFeatures, asked: VideoFeatures, mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """The most probable classes of the asked videos by the votes of the known ones; see `probe.best_classes`."""
    labels = np.asarray(known.videos.labels, np.int32)
    bank = put_replicated((unit_length(known.features), labels), mesh)

    def shares(bank: tuple[Array, Array], rows: Array) -> Array:
        return neighbour_shares(
            *bank,
            rows,
            classes=len(known.videos.class_names),
            neighbours=config.probe.neighbours,
            temperature=config.probe.temperature,
        )

    return best_classes(shares, bank, unit_length(asked.features), mesh)


def train_probe(
    config: ConfigDict, encoder: FrozenEncoder, known: VideoFeatures, asked: VideoFeatures, mesh: Mesh, out: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Trains a probe on the known videos; the most probable classes of the asked ones, see `probe.best_classes`."""
    classes, batch_size, key = len(known.videos.class_names), config.train.batch_size, jax.random.key(config.seed)
    views, shape = known.features.shape[1], known.features.shape[2:]
    examples = len(known.videos) * views
    model = LinearProbe(classes)
    if config.probe.kind == "attentive":
        model = AttentiveProbe(classes, encoder.model.variant.heads)
    optim = config.optim
    optimiser = adamw_direction(b1=optim.b1, b2=optim.b2, weight_decay=optim.weight_decay)
    probing = Probing(model, optimiser, build_schedule(config, examples))
    total = epochs_to_steps(config.train.epochs, examples, batch_size)
    scaling = Scaling.of(known.features)

    def make() -> object:
        return probing.init(stream(key, 0, "init"), shape)

    with (
        Checkpoints(out / FOLDER, every=config.checkpoint.every, keep=config.checkpoint.keep) as checkpoints,
        MetricWriter(out, is_primary()) as writer,
    ):
        start = checkpoints.latest_step() or 0
        abstract = abstract_state(make, mesh)
        state = checkpoints.restore(abstract, start) if start else make_sharded(make, abstract)
        writer.truncate_from(start + 1)
        if start < total:
            run = Run(
                step=probing.step,
                batches=feature_batches(
                    known.features,
                    np.asarray(known.videos.labels),
                    batch_size=batch_size,
                    seed=config.seed,
                    process_index=jax.process_index(),
                    process_count=jax.process_count(),
                ),
                frozen=scaling,
                key=key,
                total_steps=total,
                clips_per_step=batch_size,
                log_every=config.train.log_every,
                max_bad_steps=config.train.max_bad_steps,
                metadata={"probe": config.probe.kind},
            )
            state = train(run, state, mesh, checkpoints, writer, Progress(total, start) if is_primary() else None)

    def shares(known: tuple, rows: Array) -> Array:
        params, scaling = known
        logits = probing.logits(params, scaling, rows.reshape(-1, *rows.shape[2:]))
        return jax.nn.softmax(logits).reshape(*rows.shape[:2], -1).mean(axis=1)

    return best_classes(shares, (state.params, put_replicated(scaling, mesh)), asked.features, mesh)
