import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mgmae_jax.errors import FileError
from mgmae_jax.show import curves
from mgmae_jax.show.curves import draw_curves


def metrics(count: int = 60) -> list[dict]:
    keys = ("loss", "lr", "clips_per_second", "grad_norm")
    return [{"step": 10 * i} | {key: 1.0 + i + k for k, key in enumerate(keys)} for i in range(count)]


def size(path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_four_panels(tmp_path):
    path = tmp_path / "new" / "curves.png"
    draw_curves(metrics(), path)
    width, height = size(path)
    draw_curves([{"step": m["step"], "loss": m["loss"]} for m in metrics()], path)
    assert size(path) == pytest.approx((width / 2, height / 2), abs=2)


def test_missing_null_and_infinite_values_are_left_out():
    rows = [{"step": 3, "loss": 0.3}, {"step": 1, "loss": 0.1}, {"step": 2, "loss": None}, {"step": 4}, {"lr": 1.0}]
    rows += [{"step": 5, "loss": float("nan")}, {"step": 6, "loss": float("inf")}]
    steps, values = curves.series_of(rows, "loss")
    np.testing.assert_array_equal(steps, [1, 3])
    np.testing.assert_array_equal(values, [0.1, 0.3])


@pytest.mark.parametrize("count", [1, 2, 19, 20])
def test_short_runs_are_drawn(tmp_path, count):
    draw_curves(metrics(count), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


@given(level=st.floats(-10, 10), slope=st.floats(-1, 1), count=st.integers(20, 300), seed=st.integers(0, 99))
def test_smoothing_keeps_levels_and_lowers_noise(level, slope, count, seed):
    flat = np.full(count, level)
    np.testing.assert_allclose(curves.smooth(flat), flat, atol=1e-9)
    line = slope * np.arange(count)
    inner = slice(count // 4, -count // 4)
    np.testing.assert_allclose(curves.smooth(line)[inner], line[inner], atol=0.02 * count)
    noise = np.random.default_rng(seed).standard_normal(count)
    assert curves.smooth(noise).shape == (count,)
    assert curves.smooth(noise).std() < noise.std()


def test_a_long_run_is_smoothed_as_a_short_one_in_time_that_does_not_grow_with_its_square(monkeypatch):
    values = np.sin(np.arange(7003) / 500) + np.random.default_rng(0).standard_normal(7003)
    monkeypatch.setattr(curves, "_MOST_SMOOTHED", 10**9)
    exact = curves.smooth(values)
    monkeypatch.setattr(curves, "_MOST_SMOOTHED", 1000)
    convolve, sizes = np.convolve, []

    def counted(first, second, mode):
        sizes.append(len(first))
        return convolve(first, second, mode)

    monkeypatch.setattr(np, "convolve", counted)
    np.testing.assert_allclose(curves.smooth(values), exact, atol=0.02)
    assert max(sizes) < 1500


def test_nothing_to_draw_is_an_error(tmp_path):
    for rows in ([], [{"step": 1, "loss": None}]):
        with pytest.raises(FileError, match=r"curves\.png: no curve to draw.*loss"):
            draw_curves(rows, tmp_path / "curves.png")
    with pytest.raises(FileError, match=r"curves\.bmp.*\.png"):
        draw_curves(metrics(), tmp_path / "curves.bmp")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"curves\.png: cannot be written"):
        draw_curves(metrics(), tmp_path / "file" / "curves.png")
