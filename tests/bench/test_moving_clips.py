import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.bench.moving_clips import moving_batch
from mgmae_jax.flow.packed import PackedFlow, given_flow, one_way, read_packed
from mgmae_jax.masking.mask_input import MaskOptions
from mgmae_jax.ops.pairs import adjacent_pairs, neighbour_pairs
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.train.masks import FlowOptions, MaskStep

GRID = TokenGrid(4, 32, 32, 2, 16)
BASES = {"middle": 2, "first": 0}


def in_pixels(batch: dict[str, np.ndarray], clip: int) -> np.ndarray:
    """The flow of one clip as it would come unpacked."""
    given = given_flow({name: array[clip] for name, array in batch.items()})
    if not isinstance(given, PackedFlow):
        return given
    if given.values.ndim == 4:
        return read_packed(given, 32, 32)
    return np.stack([read_packed(one_way(given, jnp.full(3, way)), 32, 32) for way in (True, False)])


@pytest.mark.parametrize("base", ["middle", "first", "random"])
@pytest.mark.parametrize("warp", ["backward", "forward"])
@pytest.mark.parametrize("source", ["dis", "stored"])
def test_the_flow_is_that_of_the_clip(base, warp, source):
    options = MaskOptions(ratio=0.5, base_frame=base, warp=warp)
    masks = MaskStep(GRID, options, FlowOptions(source))
    batch = moving_batch(masks, clips=3)
    assert batch["flow"].dtype == (np.uint8 if source == "stored" else np.float32)
    flow = np.stack([in_pixels(batch, clip) for clip in range(3)])
    if base == "random":
        assert flow.shape == (3, 2, 3, 32, 32, 2)
        source, target = (rows.reshape(-1) for rows in adjacent_pairs(4))
    else:
        assert flow.shape == (3, 3, 32, 32, 2)
        source, target = neighbour_pairs(4, BASES[base], options.direction)
    for clip, moves in zip(batch["clip"], flow.reshape(3, -1, 32, 32, 2), strict=True):
        for pair, (start, end) in enumerate(zip(source, target, strict=True)):
            x, y = np.rint(moves[pair, 0, 0]).astype(int)
            np.testing.assert_array_equal(np.roll(clip[start], (y, x), (0, 1)), clip[end])


@pytest.mark.parametrize(("strategy", "source"), [("motion", "raft"), ("tube", "tvl1")])
def test_no_flow_where_the_step_reads_none(strategy, source):
    batch = moving_batch(MaskStep(GRID, MaskOptions(strategy=strategy, ratio=0.5), FlowOptions(source)), clips=2)
    assert set(batch) == {"clip"}
    assert batch["clip"].shape == (2, 4, 32, 32, 3)
    assert batch["clip"].dtype == np.uint8


def test_clips_move_and_differ():
    clips = moving_batch(MaskStep(GRID, MaskOptions(ratio=0.5), FlowOptions("raft")), clips=4)["clip"]
    assert len(np.unique(clips.reshape(4, -1), axis=0)) == 4
    assert any((clip[0] != clip[1]).any() for clip in clips)
