import cv2
import numpy as np
import pytest
from PIL import Image

from mgmae_jax.data.host_flow import MIN_SIDE, host_flow
from tests.shared_data import shared

METHODS = [("tvl1", False), ("tvl1", True), ("dis", False)]


def shifted_texture(shifts_xy: list[tuple[int, int]], size: int = 48) -> np.ndarray:
    """Windows of one smooth random texture; content moves by minus the difference of two windows' shifts."""
    rng = np.random.default_rng(0)
    texture = np.asarray(Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).resize((96, 96), Image.BICUBIC))
    return np.stack([texture[20 + y : 20 + y + size, 20 + x : 20 + x + size] for x, y in shifts_xy])


@pytest.mark.parametrize(("method", "fast"), METHODS)
def test_flow_is_xy_in_pixels_from_source_to_target(method, fast):
    frames = shifted_texture([(0, 0), (-2, 1)])
    flow = host_flow(frames, [0, 1], np.array([1, 0], np.int32), method, fast=fast)
    assert flow.shape == (2, 48, 48, 2)
    assert flow.dtype == np.float32
    inside = flow[:, 8:-8, 8:-8].mean((1, 2))
    np.testing.assert_allclose(inside, [[2, -1], [-2, 1]], atol=0.1)


@pytest.mark.parametrize(("method", "fast"), METHODS[1:])
def test_pairs_are_computed_one_by_one(method, fast):
    frames = shifted_texture([(0, 0), (1, 0), (1, 2)])
    both = host_flow(frames, [2, 0], [1, 1], method, fast=fast)
    np.testing.assert_array_equal(both[0], host_flow(frames, [2], [1], method, fast=fast)[0])
    np.testing.assert_array_equal(both[1], host_flow(frames, [0], [1], method, fast=fast)[0])


@pytest.mark.parametrize(("method", "fast"), METHODS[1:])
def test_the_smallest_frames_have_flow(method, fast):
    frames = shifted_texture([(0, 0), (1, 0)], MIN_SIDE)
    assert np.isfinite(host_flow(frames, [0], [1], method, fast=fast)).all()


def test_as_many_sources_as_targets():
    with pytest.raises(ValueError, match="zip"):
        host_flow(shifted_texture([(0, 0), (1, 0)]), [0, 1], [1], "tvl1")


@pytest.mark.parametrize(
    ("method", "fast", "error"), [("tvl1", True, 0.215), ("tvl1", False, 0.156), ("dis", False, 0.225)]
)
def test_end_point_error_on_rubber_whale(method, fast, error):
    folder = shared("flow_pairs/middlebury_RubberWhale")
    frames = np.stack([cv2.imread(str(folder / name))[..., ::-1] for name in ("frame10.png", "frame11.png")])
    data = (folder / "flow10.flo").read_bytes()
    width, height = np.frombuffer(data, np.int32, 2, 4)
    truth = np.frombuffer(data, np.float32, -1, 12).reshape(height, width, 2)
    known = np.abs(truth).max(-1) < 1e8
    flow = host_flow(frames, [0], [1], method, fast=fast)[0]
    assert np.linalg.norm(flow - truth, axis=-1)[known].mean() == pytest.approx(error, abs=0.003)
