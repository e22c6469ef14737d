"""A whole probe: from a checkpoint and labelled videos to features, a small model and a report."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Key
from ml_collections import ConfigDict

from mgmae_jax.data.sources import LabelledVideos
from mgmae_jax.data.views import Sampling, ViewSpec
from mgmae_jax.datasets.find import find_videos
from mgmae_jax.evaluate.classes import class_names, count_classes, match_classes
from mgmae_jax.evaluate.predictions import PREDICTIONS_FILE, PredictionFile, Predictions
from mgmae_jax.evaluate.report import Report, make_report
from mgmae_jax.evaluate.run import Draw, write_results
from mgmae_jax.models.probes import AttentiveProbe, LinearProbe
from mgmae_jax.probe.encoder import FrozenEncoder, What, load_frozen
from mgmae_jax.probe.features import VideoFeatures, extract
from mgmae_jax.probe.heads import Probing, Scaling, best_classes, feature_batches, neighbour_shares, unit_length
from mgmae_jax.runtime.checkpoint import checkpoint_name
from mgmae_jax.runtime.config_checks import TRAINER_MINIMA, check_kind, check_minima, check_one_of, check_positive
from mgmae_jax.runtime.distributed import is_primary
from mgmae_jax.runtime.mesh import check_divides, make_mesh, process_share, put_replicated
from mgmae_jax.runtime.run_info import write_run_info
from mgmae_jax.runtime.session import claimed, restored
from mgmae_jax.runtime.weights import Checkpoint, Weights
from mgmae_jax.train.loop import train
from mgmae_jax.train.optim import adamw_direction, build_schedule, epochs_to_steps
from mgmae_jax.train.state import TrainState

KINDS = ("linear", "attentive", "knn")
ENCODERS = ("trained", "random")
POOLS: Mapping[str, What] = {"clip": "pooled", "tubelet": "tubelets", "region": "regions"}
PROBE_MACHINE_FIELDS = (
    "data.workers",
    "data.allow_missing",
    "eval.clips_per_device",
    "train.log_every",
    "checkpoint",
    "mesh",
    "compile_cache",
    "evaluated.checkpoint",
)
"""Fields that do not change the result: a probe may resume with other values. (A checksum identifies the encoder.)"""

_MINIMA = {
    **TRAINER_MINIMA,
    "probe.neighbours": 1,
    "optim.warmup_epochs": 0,
    "train.batch_size": 1,
    **dict.fromkeys(("views.clips", "views.crops", "eval.clips", "eval.crops"), 1),
}


def run_probe(
    config: ConfigDict,
    run_config: ConfigDict,
    checkpoint: Checkpoint,
    out: Path,
    cache: Path,
    draw: Draw,
    argv: Sequence[str],
) -> Report:
    """Probes a checkpoint's encoder, or resumes the probe that the folder holds.

    Args:
      config: the probe's config, see configs/probe/common.py.
      run_config: the config of the run that the checkpoint belongs to.
      checkpoint: a pre-trained or fine-tuned model's, as for `restore_params`.
      out: the folder for report.json, predictions.csv, confusion.csv, confusion.png, metrics and the probe's own
        checkpoints.
      cache: the folder for features.
      draw: draws the confusion matrix, in the first process.
      argv: the command, for run.json.

    Raises:
      MgmaeError: anything that the user can fix; the message says how.
    """
    # 1. The encoder and the videos.
    check_kind(config, "probe")
    check_probe(config)
    mesh = make_mesh(config.mesh.fsdp)
    check_divides("train.batch_size", config.train.batch_size, mesh)
    videos, tests = find_both(config)
    encoder = load_frozen(run_config, checkpoint, mesh, trained=config.probe.encoder == "trained")
    views, test_views = (
        ViewSpec(encoder.clip, part.sampling, part.clips, part.crops) for part in (config.views, config.eval)
    )

    # 2. The folder: new, or holding this probe.
    splits = {"split": tests.digest(ordered=False), "training_split": videos.digest(ordered=False)}
    about: dict[str, Any] = {**encoder.about, **splits}
    source = checkpoint.source if isinstance(checkpoint, Weights) else None
    stated = ConfigDict({**config.to_dict(), "evaluated": about})
    with claimed(out, stated, PROBE_MACHINE_FIELDS, "--out"):
        if is_primary():
            about |= {"config": config.to_dict(), "run": write_run_info(out, stated, argv, weights=source)}

        # 3. Features, from the cache if they are there.
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

        # 4. The probe itself.
        if config.probe.kind == "knn":
            best, probabilities = vote(config, train_features, test_features, mesh)
        else:
            best, probabilities = train_probe(config, encoder, train_features, test_features, mesh, out)
        predictions = Predictions.none(tests)
        predictions.fill(test_features.places, best, probabilities)
        report = make_report(
            predictions, test_features.missing, {**about, "missing_in_training": len(train_features.missing)}
        )
        if is_primary():
            (out / PREDICTIONS_FILE).unlink(missing_ok=True)
            PredictionFile(out / PREDICTIONS_FILE, predictions)
            write_results(out, report, predictions, draw, f"{config.probe.kind} probe of {checkpoint_name(checkpoint)}")
    return report


def check_probe(config: ConfigDict) -> None:
    """Checks that the fields have values that can work.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    check_one_of(config, "probe.kind", KINDS)
    check_one_of(config, "probe.encoder", ENCODERS)
    check_one_of(config, "probe.pool", tuple(POOLS))
    for part in ("views", "eval"):
        check_one_of(config, f"{part}.sampling", get_args(Sampling))
    check_minima(config, _MINIMA)
    check_positive(config, "probe.temperature", "optim.lr")


def find_both(config: ConfigDict) -> tuple[LabelledVideos, LabelledVideos]:
    """The training videos and the test videos, with the classes of the former.

    Raises:
      MgmaeError: there are none, they are not labelled, or the test videos have other classes.
    """
    found, source = find_videos(config), config.data.path or "the procedural videos"
    names = class_names(found, count_classes(found, source), source)
    videos = match_classes(found, names, source)
    return videos, match_classes(find_videos(config, "test"), names, config.eval.path or "the procedural test videos")


def vote(
    config: ConfigDict, known: VideoFeatures[LabelledVideos], asked: VideoFeatures[LabelledVideos], mesh: Mesh
) -> tuple[np.ndarray, np.ndarray]:
    """The most probable test classes by the votes of the training videos; see `probe.best_classes`."""
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
    config: ConfigDict,
    encoder: FrozenEncoder,
    known: VideoFeatures[LabelledVideos],
    asked: VideoFeatures[LabelledVideos],
    mesh: Mesh,
    out: Path,
) -> tuple[np.ndarray, np.ndarray]:
    """Trains a probe; returns the most probable classes of the test videos, see `probe.best_classes`."""
    classes, batch_size = len(known.videos.class_names), config.train.batch_size
    views, shape = known.features.shape[1], known.features.shape[2:]
    examples = len(known.videos) * views
    model: LinearProbe | AttentiveProbe = LinearProbe(classes)
    if config.probe.kind == "attentive":
        model = AttentiveProbe(classes, encoder.model.variant.heads)
    optim = config.optim
    optimiser = adamw_direction(b1=optim.b1, b2=optim.b2, weight_decay=optim.weight_decay)
    probing = Probing(model, optimiser, build_schedule(config, examples))
    total = epochs_to_steps(config.train.epochs, examples, batch_size)
    scaling = Scaling.of(known.features)

    def init(key: Key[Array, ""]) -> TrainState:
        return probing.init(key, shape)

    with restored(out, config, init, total, mesh, identity={"probe": config.probe.kind}) as opened:
        if not opened.finished:
            train(
                opened,
                probing,
                feature_batches(
                    known.features,
                    np.asarray(known.videos.labels),
                    batch_size=batch_size,
                    seed=config.seed,
                    share=process_share(mesh),
                ),
                config,
                frozen=scaling,
                clips_per_step=batch_size,
                progress=opened.progress(),
            )
        params = opened.state.params

    def shares(known: tuple[Any, Scaling], rows: Array) -> Array:
        params, scaling = known
        logits = probing.logits(params, scaling, rows.reshape(-1, *rows.shape[2:]))
        return jax.nn.softmax(logits).reshape(*rows.shape[:2], -1).mean(axis=1)

    return best_classes(shares, (params, put_replicated(scaling, mesh)), asked.features, mesh)
