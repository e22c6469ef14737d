"""A whole evaluation: from a config and a checkpoint to a report, predictions and a confusion matrix."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.views import ViewSpec
from mgmae_jax.datasets.find import find_videos
from mgmae_jax.errors import ConfigError
from mgmae_jax.evaluate.classes import read_classes
from mgmae_jax.evaluate.evaluator import Evaluator, checksum
from mgmae_jax.evaluate.predictions import Predictions
from mgmae_jax.evaluate.report import (
    REPORT_FILE,
    Report,
    UnlabelledReport,
    confusion_matrix,
    make_report,
    make_unlabelled_report,
    write_confusion,
    write_report,
)
from mgmae_jax.models.classifier import Classifier, PretrainedEncoder, build_classifier
from mgmae_jax.ops.apply import apply_module
from mgmae_jax.runtime.checkpoint import checkpoint_name, restore_params
from mgmae_jax.runtime.distributed import is_primary
from mgmae_jax.runtime.mesh import abstract_on, make_mesh
from mgmae_jax.runtime.preemption import stoppable
from mgmae_jax.runtime.run_info import write_run_info
from mgmae_jax.runtime.session import check_same_in_all, claimed
from mgmae_jax.runtime.weights import Checkpoint, Weights

Draw = Callable[[np.ndarray, Sequence[str], str, Path], None]
"""Draws a confusion matrix: (counts by class and prediction, names of the classes, title, path)."""

EVALUATION_MACHINE_FIELDS = (
    "data.workers",
    "data.allow_missing",
    "eval.clips_per_device",
    "model.remat",
    "mesh",
    "compile_cache",
    "evaluated.checkpoint",
)
"""Fields that change no prediction, so that an evaluation may be resumed with other values. (A checksum identifies the
parameters.)"""


def run_evaluation(
    config: ConfigDict, checkpoint: Checkpoint, out: Path, draw: Draw, argv: Sequence[str]
) -> Report | UnlabelledReport:
    """Evaluates a checkpoint, or resumes the evaluation that the folder holds.

    Of videos without labels, there are predictions, but no accuracies and no confusion matrix.

    Args:
      config: the resolved config, see configs/finetune/common.py.
      checkpoint: a fine-tuned model's, as for `restore_params`.
      out: the folder for report.json, predictions.csv, confusion.csv, confusion.png, config.json and run.json.
      draw: draws the confusion matrix, in the first process.
      argv: the command, for run.json.

    Raises:
      StoppedError: it received SIGTERM; the same call resumes.
      MgmaeError: anything that the user can fix; the message says how.
    """
    # 1. The model and the videos.
    classes = read_classes(checkpoint)
    if config.model.classes != len(classes):
        want = f"{len(classes)}, the classes of {checkpoint_name(checkpoint)}"
        raise ConfigError("model.classes", config.model.classes, want)
    classifier = build_classifier(config)
    mesh = make_mesh(config.mesh.fsdp)
    weights = which_weights(config)
    params = restore_params(checkpoint, abstract_params(classifier, mesh), weights)
    evaluator = build_evaluator(config, classifier, mesh, classes, unlabelled=True)
    check_same_in_all({"videos": evaluator.videos.digest()})  # in order: a prediction is of a place in the list

    # 2. The folder: new, or holding this evaluation.
    about: dict[str, Any] = {
        "checkpoint": checkpoint_name(checkpoint),
        "weights": weights,
        "parameters": checksum(params),
        "split": evaluator.videos.digest(ordered=False),
    }
    source = checkpoint.source if isinstance(checkpoint, Weights) else None
    stated = ConfigDict({**config.to_dict(), "evaluated": about})
    with claimed(out, stated, EVALUATION_MACHINE_FIELDS, "--out"):
        if is_primary():
            about |= {"config": config.to_dict(), "run": write_run_info(out, stated, argv, weights=source)}

        # 3. The predictions, and their accuracy.
        with stoppable("the predictions") as preempted:
            predictions, missing = evaluator.predict(params, out, progress=True, preempted=preempted)
        if predictions.labels is None:
            unlabelled = make_unlabelled_report(predictions, missing, about)
            if is_primary():
                write_report(out / REPORT_FILE, unlabelled)
            return unlabelled
        report = make_report(predictions, missing, about)
        if is_primary():
            write_results(out, report, predictions, draw, checkpoint_name(checkpoint))
    return report


def write_results(out: Path, report: Report, predictions: Predictions, draw: Draw, title: str) -> None:
    """Writes confusion.csv, report.json and confusion.png."""
    matrix, names = confusion_matrix(predictions), predictions.classes
    write_confusion(out / "confusion.csv", matrix, names)
    write_report(out / REPORT_FILE, report)
    draw(matrix, names, f"{title}: top-1 {report.top1}, {report.videos} videos", out / "confusion.png")


def build_evaluator(
    config: ConfigDict, classifier: Classifier, mesh: Mesh, classes: tuple[str, ...], *, unlabelled: bool = False
) -> Evaluator:
    """The evaluator of `classifier` on the test videos and views that a fine-tuning config describes.

    Args:
      config: see configs/finetune/common.py.
      classifier: the model.
      mesh: the devices.
      classes: names of the model's classes.
      unlabelled: see `Evaluator`.

    Raises:
      MgmaeError: there are no such videos, they do not fit the classes, or a field has a value that cannot work.
    """
    return Evaluator(
        functools.partial(apply_module, classifier),
        mesh,
        find_videos(config, "test"),
        build_views(config),
        classes,
        workers=config.data.workers,
        clips_per_device=config.eval.clips_per_device,
        allow_missing=config.data.allow_missing,
        source=config.eval.path or "the procedural test videos",
        unlabelled=unlabelled,
    )


def build_views(config: ConfigDict) -> ViewSpec:
    """The views that config.clip and config.eval describe."""
    clip = ClipSpec(config.clip.frames, config.clip.stride, config.clip.size)
    return ViewSpec(clip, config.eval.sampling, config.eval.clips, config.eval.crops)


def which_weights(config: ConfigDict) -> str:
    """The subtree of the state that is evaluated: "params", or "ema" if the run keeps an average.

    Raises:
      ConfigError: `eval.weights` is unknown, or asks for an average that the run does not keep.
    """
    averages = config.train.ema_decay > 0
    if config.eval.weights not in ("auto", "raw", "ema") or (config.eval.weights == "ema" and not averages):
        want = "one of auto, raw, ema" if averages else "auto or raw, as the run keeps no average (train.ema_decay=0)"
        raise ConfigError("eval.weights", config.eval.weights, want)
    return "ema" if averages and config.eval.weights != "raw" else "params"


def abstract_params(model: Classifier | PretrainedEncoder, mesh: Mesh) -> Any:
    """Shapes of a model's parameters with their shardings on `mesh`."""
    grid = model.grid
    clips = jnp.zeros((1, grid.frames, grid.height, grid.width, 3), jnp.uint8)
    return abstract_on(mesh, model.init, jax.random.key(0), clips)["params"]
