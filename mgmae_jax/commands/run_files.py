"""What a run's workdir holds, as reports show it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mgmae_jax.errors import FileError, MgmaeError
from mgmae_jax.evaluate.report import REPORT_FILE, read_report
from mgmae_jax.runtime.files import read_object
from mgmae_jax.runtime.metrics import METRICS_FILE, read_metrics
from mgmae_jax.runtime.run_info import CONFIG, RUN, flat_fields
from mgmae_jax.show.run_report import Evaluation, ShownRun
from mgmae_jax.train.baselines import GUESSES, read_guesses

_EVALUATIONS = "evaluation"


def run_names(workdirs: Sequence[Path]) -> list[str]:
    """What runs are called: by as many of the last parts of their folders' paths as tell them apart.

    Raises:
      MgmaeError: one of the folders is given twice.
    """
    paths = [workdir.absolute() for workdir in workdirs]
    if again := [path for path in paths if paths.count(path) > 1]:
        raise MgmaeError(f"WORKDIR={str(again[0])!r}: is given twice")
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def read_run(workdir: Path, name: str, previews: int) -> ShownRun:
    """Reads a run.

    Args:
      workdir: its folder.
      name: what it is called.
      previews: how many of its pictures to read, evenly spaced, at most.

    Raises:
      FileError: it is not the folder of a run, or a file in it is damaged.
    """
    if not (workdir / CONFIG).is_file():
        raise FileError(workdir, f"has no {CONFIG}: give the --workdir of a run that has started")
    folders = sorted(path.parent for path in workdir.glob(f"*/{METRICS_FILE}"))
    return ShownRun(
        name=name,
        metrics=read_metrics(workdir) if (workdir / METRICS_FILE).exists() else [],
        measured={folder.name: read_metrics(folder) for folder in folders},
        config=flat_fields(read_object(workdir / CONFIG)),
        about=read_object(workdir / RUN) if (workdir / RUN).exists() else {},
        previews=_previews(workdir / "previews", previews),
        guesses=read_guesses(workdir / GUESSES) if (workdir / GUESSES).exists() else {},
        evaluations=_evaluations(workdir / _EVALUATIONS),
    )


def _previews(folder: Path, most: int) -> list[tuple[int, Image.Image]]:
    found = sorted(path for path in folder.glob("*.png") if path.stem.isdecimal())
    chosen = sorted({round(place) for place in np.linspace(0, len(found) - 1, min(most, len(found)))})
    return [(int(found[place].stem), _picture(found[place])) for place in chosen]


def _picture(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError) as error:  # which Pillow raises
        raise FileError(path, f"cannot be read as a picture ({error})") from error


def _evaluations(folder: Path) -> list[Evaluation]:
    """Those with labels, by the number of the step they are of."""
    reports = sorted(folder.glob(f"*/{REPORT_FILE}"), key=lambda path: (len(path.parent.name), path.parent.name))
    return [_evaluation(path) for path in reports if read_object(path).get("labels") is not False]


def _evaluation(path: Path) -> Evaluation:
    report = read_report(path)
    accuracies = {name: tuple(getattr(report, name)) for name in ("top1", "top5", "mean_class")}
    classes = [(one.name, one.videos, one.correct) for one in report.classes]
    step = path.parent.name
    return Evaluation(
        f"step {step}" if step.isdecimal() else step, report.videos, len(report.missing), accuracies, classes
    )
