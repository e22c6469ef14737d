"""Stored RAFT flow, and RAFT in the step, on the same crops of procedural videos: flow and masks must agree."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.bench.agreement import agreement, visible_mask, visible_tokens
from mgmae_jax.data.augment import CropBox, crop_resize
from mgmae_jax.data.decode import open_video
from mgmae_jax.data.encode import encode_mp4
from mgmae_jax.data.flow_places import flow_path
from mgmae_jax.data.pretrain_clips import FlowSpec, read_steps, stored_clip_flow
from mgmae_jax.datasets import motion_shapes
from mgmae_jax.flow.clip_flow import grid_flow, pair_flow
from mgmae_jax.flow.packed import packed, read_packed
from mgmae_jax.interop.flow_weights import load_flow_params
from mgmae_jax.masking.mask_input import MaskOptions
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.train import store_flow
from mgmae_jax.train.masks import FlowOptions

SIZE, BOX, SIDE = (96, 128), CropBox(8, 20, 80, 80), 96
GRID = TokenGrid(8, SIDE, SIDE, 2, 8)
SPEC = FlowSpec(base=4, source="stored")


def test_stored_flow_is_that_of_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By the bundled weights; at a stride of 2, the flow of the skipped frames is composed."""
    monkeypatch.setattr(store_flow, "grid_flow", functools.partial(grid_flow, scan=True))  # which compiles in seconds
    params = load_flow_params("bundled")
    method = store_flow.raft_method(params, FlowOptions("raft", 6), SIDE)
    in_step = jax.jit(functools.partial(pair_flow, iters=6, scan=True))
    keys = jax.random.split(jax.random.key(0), 16)
    tokens = jax.jit(lambda flow: visible_mask(visible_tokens(flow, keys, GRID, MaskOptions()), GRID))
    read = jax.jit(lambda flow: read_packed(flow, SIDE, SIDE))
    pairs = SPEC.pairs(GRID.frames)
    errors: dict[int, list[float]] = {1: [], 2: []}
    agreed: dict[int, list[float]] = {1: [], 2: []}
    for index in range(3):
        path = tmp_path / f"{index}.mp4"
        path.write_bytes(encode_mp4(motion_shapes.render(0, index, size=SIZE, frames=40).frames[10:26], 12))
        assert store_flow.store_flow(str(path), flow_path(path), method)
        for stride in errors:
            indices = stride * np.arange(GRID.frames)
            with open_video(path) as video:
                frames = crop_resize(video.decode(indices), BOX, SIDE)
                steps = read_steps(video, str(path), SPEC, indices)
            stored = read(packed(stored_clip_flow(steps, indices, SPEC, BOX, SIZE)))
            computed = in_step(params, frames, *pairs)
            errors[stride].append(float(jnp.linalg.norm(stored - computed, axis=-1).mean()))
            agreed[stride].append(float(agreement(tokens(stored), tokens(computed))))
            assert jnp.linalg.norm(computed, axis=-1).mean() > 0.5 * stride
    # Measured: 0.26 px and 0.963; 0.63 px and 0.914.
    assert np.mean(errors[1]) < 0.3
    assert np.mean(agreed[1]) > 0.95
    assert np.mean(errors[2]) < 0.75
    assert np.mean(agreed[2]) > 0.89
