import dataclasses
import math

import numpy as np
import pytest
from PIL import Image

from mgmae_jax.show.run_report import Evaluation, ShownRun, report_page
from tests.show.html_pages import HOSTILE, checked


def run(name: str = "mine", steps: int = 30, **changes) -> ShownRun:
    rng = np.random.default_rng(0)
    metrics = [
        {"step": step, "loss": 1 / step, "lr": 0.1, "grad_norm": 2.0, "clips_per_second": 10.0, "data_wait_share": 0.5,
         "step_seconds": 1.0, "bad_steps": 0.0}
        for step in range(1, steps + 1)
    ]  # fmt: skip
    picture = Image.fromarray(rng.integers(0, 255, (40, 2000, 3), np.uint8))
    made = ShownRun(
        name=name,
        metrics=metrics,
        measured={"accuracy": [{"step": 10, "top1": 0.25}, {"step": 20, "top1": 0.5}]},
        config={"kind": '"pretrain"', "mask.ratio": "0.9"},
        about={"command": "mgmae pretrain", "versions": {"jax": "0.10.2"}, "git_revision": None, "changes": ["a", "b"]},
        previews=[(0, picture), (30, picture)],
        guesses={"network": 0.25, "mean_cube": 0.5},
        evaluations=[Evaluation("step 30", 20, 1, {"top1": (0.5, 0.4, 0.6)}, [("cat", 10, 9), ("dog", 10, 1)])],
    )
    return dataclasses.replace(made, **changes)


def sections(page) -> list[str]:
    return [one["id"] for one in page.named("h2")]


def test_a_report_has_everything_of_its_run():
    page = checked(report_page([run()]))
    assert sections(page) == [
        "overview", "curves", "previews", "guesses-without-a-network", "evaluations", "environment", "configs",
    ]  # fmt: skip
    assert len(page.named("svg")) == 6  # five metrics of steps, one measured accuracy
    assert [one["alt"].partition(":")[0] for one in page.named("img")] == ["mine, step 0", "mine, step 30"]
    words = " ".join(page.texts)
    for shown in ("Report of mine", "50.00 (40.00 to 60.00)", "versions.jax", "a; b", "mean cube", "mask.ratio"):
        assert shown in words
    assert words.index("dog") < words.index("cat")  # the worst class first
    assert "step seconds" not in words.lower()


def test_runs_are_told_apart_and_their_differences_listed():
    other = run("other", config={"kind": '"pretrain"', "mask.ratio": "0.5", "new": "1"})
    page = checked(report_page([run(), other]))
    assert "differences-of-the-configs" in sections(page)
    table = " ".join(page.texts).rpartition("Differences of the configs")[2].partition("Guesses")[0]
    assert "mask.ratio" in table
    assert "new" in table
    assert "\u2013" in table
    assert "kind" not in table
    classes = [one["class"] for one in page.named("polyline")]
    assert "line0" in classes
    assert "line1" in classes
    assert "same config" in report_page([run(), run("other")])


def test_a_run_that_has_just_started_has_a_page():
    bare = ShownRun("new", [], {}, {"kind": '"pretrain"'}, {}, [], {}, [])
    assert sections(checked(report_page([bare]))) == ["overview", "configs"]


def test_a_run_that_ended_in_nan_shows_it():
    metrics = [{"step": 2, "loss": math.nan}, {"step": 1, "loss": 0.5}]
    words = checked(report_page([run(metrics=metrics)])).texts
    assert "not finite" in words[: words.index("Curves", words.index("last loss"))]


def test_values_that_are_not_finite_leave_gaps():
    metrics = [{"step": step, "loss": value} for step, value in enumerate((1.0, math.nan, math.inf, 2.0))]
    page = checked(report_page([run(metrics=metrics, measured={})]))
    (points,) = [one["points"] for one in page.named("polyline")]
    assert len(points.split()) == 2
    assert "nan" not in report_page([run(metrics=metrics, guesses={"network": math.nan})]).lower().split("<body>")[1]


def test_pictures_are_made_small():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (900, 1080, 3), np.uint8))
    assert len(report_page([run(previews=[(0, noise)])])) < 1_000_000


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_inject_nothing(name: str):
    hostile = run(
        name,
        config={name: name},
        about={name: {name: name}},
        measured={name: [{"step": 1, name: 1.0}]},
        guesses={name: 1.0},
        metrics=[{"step": 1, name: 0.5}],
        evaluations=[Evaluation(name, 1, 0, {name: (0.5, 0.4, 0.6)}, [(name, 1, 1)])],
    )
    usual = run(
        config={"a": "b"},
        about={"a": {"b": "c"}},
        measured={"a": [{"step": 1, "b": 1.0}]},
        guesses={"a": 1.0},
        metrics=[{"step": 1, "loss": 0.5}],
        evaluations=[Evaluation("a", 1, 0, {"b": (0.5, 0.4, 0.6)}, [("c", 1, 1)])],
    )
    plain = checked(report_page([usual]))
    page = checked(report_page([hostile, hostile]))
    assert not page.named("script")
    single = checked(report_page([hostile]))
    assert [tag for tag, _ in single.elements] == [tag for tag, _ in plain.elements]
