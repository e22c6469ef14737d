import numpy as np
import pytest

from mgmae_jax.bench.moving_clips import moving_batch
from mgmae_jax.masking.strategies import MaskOptions
from mgmae_jax.ops.pairs import adjacent_pairs, neighbour_pairs
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.train.masks import FlowOptions, MaskStep

GRID = TokenGrid(4, 32, 32, 2, 16)
BASES = {"middle": 2, "first": 0}


@pytest.mark.parametrize("base", ["middle", "first", "random"])
@pytest.mark.parametrize("warp", ["backward", "forward"])
@pytest.mark.parametrize("source", ["tvl1", "stored"])
def test_the_flow_is_that_of_the_clip(base, warp, source):
    options = MaskOptions(base_frame=base, warp=warp)
    batch = moving_batch(MaskStep(GRID, options, FlowOptions(source)), clips=3)
    assert batch["flow"].dtype == np.float32
    if base == "random":
        assert batch["flow"].shape == (3, 2, 3, 32, 32, 2)
        source, target = (rows.reshape(-1) for rows in adjacent_pairs(4))
    else:
        assert batch["flow"].shape == (3, 3, 32, 32, 2)
        source, target = neighbour_pairs(4, BASES[base], options.direction)
    for clip, flow in zip(batch["clip"], batch["flow"].reshape(3, -1, 32, 32, 2), strict=True):
        for pair, (start, end) in enumerate(zip(source, target, strict=True)):
            x, y = flow[pair, 0, 0].astype(int)
            np.testing.assert_array_equal(np.roll(clip[start], (y, x), (0, 1)), clip[end])


@pytest.mark.parametrize(("strategy", "source"), [("motion", "raft"), ("tube", "tvl1")])
def test_no_flow_where_the_step_reads_none(strategy, source):
    batch = moving_batch(MaskStep(GRID, MaskOptions(strategy=strategy), FlowOptions(source)), clips=2)
    assert set(batch) == {"clip"}
    assert batch["clip"].shape == (2, 4, 32, 32, 3)
    assert batch["clip"].dtype == np.uint8


def test_clips_move_and_differ():
    clips = moving_batch(MaskStep(GRID, MaskOptions(), FlowOptions("raft")), clips=4)["clip"]
    assert len(np.unique(clips.reshape(4, -1), axis=0)) == 4
    assert any((clip[0] != clip[1]).any() for clip in clips)
