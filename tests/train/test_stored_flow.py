from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.data.flow_places import flow_path
from mgmae_jax.datasets.find import flow_folders
from mgmae_jax.errors import ConfigError
from mgmae_jax.masking.mask_input import MaskOptions
from mgmae_jax.ops.pairs import adjacent_pairs, neighbour_pairs
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.runtime.mesh import make_mesh
from mgmae_jax.train.clips import batch_spec, find_clips, flow_spec, frame_cache, open_clips
from mgmae_jax.train.masks import FlowOptions, MaskStep, build_mask_step
from tests.train.tiny import random_batch

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
CONFIG = "pretrain/common"
GRID = TokenGrid(4, 32, 32, patch=8)
SMALL = [
    "--config.clip.frames=4", "--config.clip.size=32", "--config.clip.stride=2", "--config.model.patch=8",
    "--config.mask.ratio=0.5", "--config.data.motion_shapes.videos=3", "--config.data.motion_shapes.size=32",
    "--config.data.motion_shapes.frames=12", "--config.train.batch_size=8", "--config.data.workers=0",
    "--config.flow.source=stored",
]  # fmt: skip


def masks_of(source: str, **mask: str | int) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """The visible tokens of a batch by flow of that source."""
    step = jax.jit(MaskStep(GRID, MaskOptions(ratio=0.5, **mask), FlowOptions(source)))
    keys = jax.random.split(jax.random.key(0), 8)
    return lambda batch: np.asarray(step({}, batch, keys).visible)


def test_masks_of_stored_flow_are_those_of_the_same_flow_by_another_source():
    def moved(x: float) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The same flow in pixels, and on a grid of 8 pixels."""
        dense = np.full((8, 3, 32, 32, 2), x, np.float32)
        span = np.zeros((8, 3, 2, 2), np.float32)
        span[:, :, 0] = x / 8
        stored = {
            "flow": np.zeros((8, 3, 6, 6, 2), np.uint8),
            "flow_span": span,
            "flow_place": np.broadcast_to(np.float32([[0.5, 4]]), (8, 2, 2)),
        }
        return random_batch(0) | {"flow": dense}, random_batch(0) | stored

    (right, right_stored), (_, left_stored) = moved(8), moved(-8)
    for options in ({}, {"warp": "trajectory", "spacing": 4}):
        dense, stored = masks_of("dis", **options), masks_of("stored", **options)
        np.testing.assert_array_equal(stored(right_stored), dense(right))
        assert (stored(right_stored) != stored(left_stored)).any()


def test_an_unknown_source_names_the_known_ones():
    with pytest.raises(ConfigError, match=r"flow\.source='kept': give one of raft, tvl1, dis, stored, codec, none"):
        FlowOptions("kept")


@pytest.mark.parametrize("base", ["middle", "random"])
def test_procedural_videos_come_with_their_flow(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MGMAE_CACHE", str(tmp_path))
    config = load_config(CONFIG, [*SMALL, f"--config.mask.base_frame={base}", "--config.flow.path=elsewhere"])
    videos, masks = find_clips(config), build_mask_step(config)
    spec = batch_spec(config, make_mesh())
    assert all(flow_path(path).exists() for path in videos.paths)
    with open_clips(config, masks, videos, 0, lambda path, reason: pytest.fail(reason), spec) as batches:
        batch = next(batches)
    pairs = adjacent_pairs(4) if base == "random" else neighbour_pairs(4, 2)
    assert batch["flow"].shape == (8, *pairs[0].shape, 12, 12, 2)
    assert batch["flow"].any()
    split = masks({}, batch, jax.random.split(jax.random.key(0), 8))
    assert split.visible.shape == (8, 16)


@pytest.mark.parametrize("change", ["--config.flow.source=dis", "--config.mask.strategy=tube"])
def test_where_it_is_not_read_no_flow_is_made(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MGMAE_CACHE", str(tmp_path))
    assert not any(flow_path(path).exists() for path in find_clips(load_config(CONFIG, [*SMALL, change])).paths)


def test_where_videos_and_their_flow_lie(tmp_path: Path):
    (tmp_path / "list.csv").touch()
    for path, root in (("", ""), (str(tmp_path), str(tmp_path)), (f"{tmp_path}/list.csv", str(tmp_path))):
        config = load_config(CONFIG, [f"--config.data.path={path}", "--config.flow.path=/flow"])
        assert flow_folders(config) == (root, "/flow" if path else "")


@pytest.mark.parametrize("source", ["dis", "tvl1"])
def test_frames_are_large_enough_for_the_method(source: str):
    small = ["--config.clip.size=8", "--config.model.patch=4", f"--config.flow.source={source}"]
    config = load_config(CONFIG, [*SMALL, *small])
    with pytest.raises(ConfigError, match=rf"config\.clip\.size=8: give 12 pixels or more for flow\.source={source}"):
        flow_spec(config, build_mask_step(config))


def test_a_cache_of_frames_is_asked_for_and_has_room():
    assert frame_cache(load_config(CONFIG, SMALL)) is None
    config = load_config(CONFIG, [*SMALL, "--config.data.cache=~/frames", "--config.data.cache_gib=2.5"])
    assert frame_cache(config) == (str(Path.home() / "frames"), 2.5)
    config.data.cache_gib = 0.0
    with pytest.raises(ConfigError, match=r"config\.data\.cache_gib=0\.0: give a number above 0"):
        find_clips(config)
