import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmae_jax.show.line_chart import MOST_LINES, Chart, Line, in_words, line_chart, thinned, value_range
from tests.show.html_pages import HOSTILE, Page


def line(values, name: str = "a run", style: int = 0) -> Line:
    return Line(name, style, np.arange(1.0, 1.0 + len(values)), np.asarray(values, np.float64))


def chart(*lines: Line, smoothed: bool = False) -> str:
    return line_chart(Chart("Loss", "in units", smoothed, lines), 3)


def points(markup: str) -> list[list[tuple[float, float]]]:
    drawn = re.findall(r'<polyline class="line\d[^"]*" points="([^"]+)"', markup)
    return [[tuple(map(float, pair.split(","))) for pair in one.split()] for one in drawn]


def test_a_rising_curve_goes_right_and_up_within_the_chart():
    (drawn,) = points(chart(line([1.0, 2.0, 4.0])))
    x, y = np.array(drawn).T
    assert (np.diff(x) > 0).all()
    assert (np.diff(y) < 0).all()
    assert x.min() >= 0
    assert x.max() <= 480
    assert y.min() >= 0
    assert y.max() <= 250


def test_words_say_what_the_picture_shows():
    markup = chart(line([3.0, 1.0, 2.0]), line([5.0], "one point", 1))
    made = Page(markup)
    (svg,) = made.named("svg")
    assert svg["role"] == "img"
    assert svg["aria-labelledby"] == "t3 d3"
    words = "a run: from 3 at step 1 to 2 at step 3, lowest 1, highest 3; one point: 5 at step 1"
    assert words in made.texts
    assert in_words(line([0.5])) == "a run: 0.5 at step 1"
    assert len(made.named("circle")) == 1


def test_each_line_has_a_class_of_its_own():
    markup = chart(*(line([i, i + 1.0], str(i), i) for i in range(MOST_LINES)))
    assert re.findall(r'class="(line\d)"', markup) == [f"line{i}" for i in range(MOST_LINES)]


def test_only_long_noisy_curves_are_smoothed():
    values = np.arange(30) % 2.0
    assert len(points(chart(line(values), smoothed=True))) == 2
    assert len(points(chart(line(values)))) == 1
    assert len(points(chart(line(values[:19]), smoothed=True))) == 1
    rough, smooth = points(chart(line(values), smoothed=True))
    assert np.ptp([y for _, y in smooth[5:-5]]) < 0.5 * np.ptp([y for _, y in rough])


def test_a_spike_does_not_flatten_the_rest():
    spiked = line([1.0, 1.1] * 20 + [1000.0])
    assert value_range([spiked], spikes=False) == (pytest.approx(0.995, abs=0.01), pytest.approx(1.12, abs=0.02))
    assert value_range([spiked], spikes=True)[1] > 1000
    for drawn in points(chart(spiked, smoothed=True)):
        assert min(y for _, y in drawn) >= 10  # it stays within the chart


def test_a_short_run_is_drawn_in_full_beside_a_long_one():
    long, short = line([0.2, 0.21] * 500), line(np.linspace(1.0, 0.6, 30), "short", 1)
    assert value_range([long, short], spikes=False)[1] >= 0.98
    beginning = points(chart(long, short, smoothed=True))[-1][0]
    assert beginning[1] < points(chart(long, short, smoothed=True))[-1][-1][1]  # it falls


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_any_values_are_drawn_within_the_chart(values):
    for spikes in (False, True):
        low, high = value_range([line(values)], spikes=spikes)
        assert low < high
    for drawn in points(chart(line(values), smoothed=True)):
        assert all(0 <= x <= 480 and 0 <= y <= 250 for x, y in drawn)


@given(st.integers(1, 3000), st.integers(0, 99))
def test_thinning_keeps_ends_and_extremes(count: int, seed: int):
    steps, values = np.arange(float(count)), np.random.default_rng(seed).standard_normal(count)
    fewer, kept = thinned(steps, values)
    assert len(fewer) == len(kept) <= 300
    assert (np.diff(fewer) > 0).all()
    assert {steps[0], steps[-1], steps[values.argmin()], steps[values.argmax()]} <= set(fewer)
    np.testing.assert_array_equal(values[fewer.astype(int)], kept)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text(name: str):
    made = Page(line_chart(Chart(name, name, False, [line([1.0, 2.0], name)]), 0))
    assert {tag for tag, _ in made.elements} <= {
        "figure", "figcaption", "b", "span", "svg", "title", "desc", "line", "polyline", "text",
    }  # fmt: skip
