"""Two reports side by side, class by class (the paper's Figure 4)."""

from collections.abc import Sequence
from typing import NamedTuple

from mgmae_jax.errors import MgmaeError
from mgmae_jax.evaluate.classes import same_name
from mgmae_jax.evaluate.report import Report

SHOWN = 29  # classes in the paper's figure


class ClassDifference(NamedTuple):
    """Accuracies of a class in two reports, from 0 to 1, and the number of its videos in the first."""

    name: str
    videos: int
    first: float
    second: float

    @property
    def difference(self) -> float:
        """How much more accurate the second is, in percentage points."""
        return round(100 * (self.second - self.first), 9)  # so that equal differences are equal


def compare_reports(first: Report, second: Report, names: tuple[str, str]) -> list[ClassDifference]:
    """The classes that have videos in both reports, sorted by the second's gain, largest first.

    Args:
      first: the report to compare with.
      second: the report that is better where a difference is positive.
      names: the reports' names, for errors.

    Raises:
      MgmaeError: the reports have different classes, or were made on different videos.
    """
    classes = [[same_name(one.name) for one in report.classes] for report in (first, second)]
    if classes[0] != classes[1]:
        pairs = zip(*classes, strict=False)
        at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(map(len, classes)))
        told = [f"{len(names)} classes, number {at} is {names[at]!r}" if at < len(names) else f"{len(names)} classes"
                for names in classes]  # fmt: skip
        raise MgmaeError(
            f"{names[0]} and {names[1]} have different classes ({told[0]}; {told[1]}): "
            "compare evaluations of the same data set, with its classes in the same order."
        )
    if first.split != second.split:
        raise MgmaeError(
            f"{names[0]} and {names[1]} were evaluated on different videos or labels (split {first.split}, of "
            f"{first.videos + len(first.missing)} videos; split {second.split}, of "
            f"{second.videos + len(second.missing)}): evaluate both on the same list."
        )
    both = [
        ClassDifference(a.name, a.videos, a.accuracy, b.accuracy)
        for a, b in zip(first.classes, second.classes, strict=True)
        if a.accuracy is not None and b.accuracy is not None
    ]
    return sorted(both, key=lambda one: (-one.difference, one.name))


def most_different(differences: Sequence[ClassDifference], count: int = SHOWN) -> list[ClassDifference]:
    """The `count` classes that differ most, in their present order; equal classes are left out."""
    largest = sorted((one for one in differences if one.difference), key=lambda one: -abs(one.difference))[:count]
    return [one for one in differences if one in largest]


def comparison_table(
    first: Report, second: Report, names: tuple[str, str], differences: Sequence[ClassDifference]
) -> str:
    """Both reports as text: overall, then the given classes.

    Args:
      first: the first report.
      second: the second report.
      names: the reports' names.
      differences: classes to list.
    """
    rows = [("", "videos", *names, "difference")]
    for label, field in (("top-1", "top1"), ("top-5", "top5"), ("mean class", "mean_class")):
        a, b = getattr(first, field).value, getattr(second, field).value
        rows.append((label, str(first.videos), f"{a:.2%}", f"{b:.2%}", f"{100 * (b - a):+.2f}"))
    for one in differences:
        rows.append((one.name, str(one.videos), f"{one.first:.1%}", f"{one.second:.1%}", f"{one.difference:+.1f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
             for row in rows]  # fmt: skip
    rule = "-" * len(lines[0])
    lines[4:4] = [rule]
    lines[1:1] = [rule]
    if differences:
        lines.append("difference: the second minus the first, in percentage points")
    for name, report in zip(names, (first, second), strict=True):
        if report.missing:
            lines.append(
                f"{name}: {len(report.missing)} unreadable videos are not counted, which also affects the difference"
            )
    return "\n".join(lines)
