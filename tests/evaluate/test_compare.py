import dataclasses

import pytest

from mgmae_jax.errors import MgmaeError
from mgmae_jax.evaluate.compare import compare_reports, comparison_table, most_different
from mgmae_jax.evaluate.report import ClassResult, Interval, Missing, Report

NAMES = ("before", "after")


def report(*correct, videos=10, **changes):
    """Of classes a, b, ... with so many of `videos` right each."""
    classes = tuple(ClassResult(name, videos, right) for name, right in zip("abcdefgh", correct, strict=False))
    share = Interval(sum(correct) / (videos * len(correct)), 0.0, 1.0)
    made = Report(videos * len(correct), share, share, share, classes, (), "split", {})
    return dataclasses.replace(made, **changes)


def test_differences_are_in_points_and_the_largest_gain_comes_first():
    found = compare_reports(report(5, 5, 5, 9), report(6, 2, 5, 10), NAMES)
    assert [(one.name, one.difference) for one in found] == [("a", 10), ("d", 10), ("c", 0), ("b", -30)]


def test_most_different_takes_both_ends_and_keeps_the_order():
    found = compare_reports(report(5, 5, 5, 9, 5), report(6, 2, 5, 10, 9), NAMES)
    assert [one.name for one in most_different(found, 2)] == ["e", "b"]
    assert [one.name for one in most_different(found)] == ["e", "a", "d", "b"]


def test_a_class_without_videos_has_no_difference():
    first, second = report(5, 5), report(6, 6)
    empty = (first.classes[0], ClassResult("b", 0, 0))
    found = compare_reports(dataclasses.replace(first, classes=empty), second, NAMES)
    assert [one.name for one in found] == ["a"]


def test_the_table_says_all():
    first, second = report(5, 5), report(6, 2, missing=(Missing("x.mp4", "is empty"),))
    table = comparison_table(first, second, NAMES, compare_reports(first, second, NAMES))
    lines = [line.split() for line in table.splitlines()]
    assert lines[0] == ["videos", "before", "after", "difference"]
    assert ["top-1", "20", "50.00%", "40.00%", "-10.00"] in lines
    assert ["a", "10", "50.0%", "60.0%", "+10.0"] in lines
    assert ["b", "10", "50.0%", "20.0%", "-30.0"] in lines
    assert "after: 1 unreadable videos are not counted" in table
    assert "before: " not in table


def test_equal_names_are_equal_in_every_spelling():
    names = ("caf\u00e9", "07"), ("cafe\u0301", "7")
    first, second = (report(1, 2, classes=tuple(ClassResult(name, 10, 5) for name in pair)) for pair in names)
    assert [one.difference for one in compare_reports(first, second, NAMES)] == [0, 0]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (report(1, 2, 3), r"before and after have different classes \(2 classes; 3 classes, number 2 is 'c'\)"),
        (
            report(1, 2, classes=(ClassResult("a", 10, 1), ClassResult("x", 10, 1))),
            r"2 classes, number 1 is 'b'; 2 classes, number 1 is 'x'",
        ),
        (report(1, 2, split="other"), r"different videos or labels \(split split, of 20 videos; split other"),
    ],
)
def test_reports_of_other_data_are_refused(other, message):
    with pytest.raises(MgmaeError, match=message):
        compare_reports(report(5, 5), other, NAMES)
