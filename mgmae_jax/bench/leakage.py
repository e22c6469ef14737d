"""Leakage: how much of what a mask hides can be seen elsewhere in the clip, along its true motion or nearby.

This is what motion guided masking is for (MGMAE, section 1): where things move, a tube hides a point in one frame and
shows it in the next, and a network may copy instead of learning. Measured on procedural videos, whose layers and
matrices say exactly where each point of each frame is in every other one, and whether it is covered there.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from ml_collections import ConfigDict

from mgmae_jax.data.augment import CropBox
from mgmae_jax.data.pretrain_clips import FlowSpec, host_clip_flow, stored_clip_flow
from mgmae_jax.data.stored_flow import StoredFlow, cell_grid, to_cells
from mgmae_jax.datasets.motion_shapes.scene import Scene, draw, sample_scene, scene_flow, top_layers
from mgmae_jax.errors import ConfigError
from mgmae_jax.flow.packed import packed
from mgmae_jax.masking.mask_input import base_frame
from mgmae_jax.masking.strategies import draw_mask
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit, patchify, unpatchify
from mgmae_jax.runtime.rng import per_example, stream
from mgmae_jax.train.baselines import nearest_visible
from mgmae_jax.train.clips import flow_spec
from mgmae_jax.train.masks import MaskStep, build_mask_step

TRUE = "true flow"
SETS = ("moving", "still")
_EVERY = 2  # pixels from one measured point to the next
_FLOW_CELL = 4  # pixels to a side of the cells of stored flow, as beside the procedural videos


class Leak(NamedTuple):
    """What one mask leaks; shares of 1.

    Attributes:
      seen: of the hidden points, how many are visible in another frame.
      along_motion: how much of the hidden points' variance is explained by copying each from the nearest frame where
        it is visible; those that are visible nowhere are the mean of the visible points.
      nearby: how much is explained by copying the nearest visible cube, by distance in tokens; negative if worse
        than the mean.
    """

    seen: float
    along_motion: float
    nearby: float


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to masks.

    Args:
      name: the strategy, and its flow if it needs any.
      step: the masking step.
      flow: what flow comes with a clip: "true", or a data worker's; None if none does.
    """

    name: str
    step: MaskStep
    flow: FlowSpec | str | None


def ways(config: ConfigDict, strategies: Sequence[str]) -> list[Way]:
    """Masks by each strategy, and where one needs flow by the true flow and by that of `flow.source`.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    found = []
    for name in strategies:
        own = config.copy_and_resolve_references()
        own.mask.strategy = name
        step = build_mask_step(own)
        if not step.needs_flow:
            found.append(Way(name, step, None))
            continue
        if step.mask.base_frame == "random":
            raise ConfigError("mask.base_frame", "random", "middle or first: the flow is computed once for all masks")
        if step.flow.source == "codec":
            raise ConfigError("flow.source", "codec", "raft, tvl1, dis or stored: what is rendered has no encoder")
        true = dataclasses.replace(step, flow=dataclasses.replace(step.flow, source="stored"))
        found += [Way(f"{name}, {TRUE}", true, "true"), Way(f"{name}, {step.flow.source}", step, flow_spec(own, step))]
    return found


def clip_scene(seed: int, index: int, grid: TokenGrid, stride: int, moves: bool) -> Scene:
    """The middle of a procedural video, as long as the clips.

    Args:
      seed: the seed of the videos.
      index: which one; its class is the index modulo their number.
      grid: how clips are cut.
      stride: frames from one frame of the clip to the next.
      moves: False for a video in which nothing does.
    """
    span = stride * (grid.frames - 1) + 1
    length = max(40, span)
    scene = sample_scene(seed, index, size=(grid.height, grid.width), frames=length, still=not moves)
    times = (length - span) // 2 + stride * np.arange(grid.frames)
    return dataclasses.replace(scene, transforms=scene.transforms[:, times])


def places(scene: Scene) -> np.ndarray:
    """Where what a point shows is in every frame.

    Returns:
      int32 [T, T, y, x], for frame s, then for every second pixel down and across of frame t: the pixel in s that is
      nearest to it (row * W + column), or -1 where it is outside of the frame or covered.
    """
    (height, width), top = scene.size, top_layers(scene)
    y, x = np.mgrid[:height:_EVERY, :width:_EVERY]
    here = np.stack([x, y, np.ones_like(x)], -1).astype(np.float64)
    found = np.full((len(top), len(top), *x.shape), -1, np.int32)
    for t, layers in enumerate(top[:, ::_EVERY, ::_EVERY]):
        moves = scene.transforms @ np.linalg.inv(scene.transforms[:, t])[:, None]  # [layers, T, 3, 3]
        for s, covers in enumerate(top):
            there = np.rint(np.einsum("yxij,yxj->yxi", moves[layers, s, :2], here)).astype(np.int32)
            within = ((there >= 0) & (there < (width, height))).all(-1)
            column, row = np.where(within[..., None], there, 0).transpose(2, 0, 1)
            same = within & (covers[row, column] == layers)
            found[s, t][same] = (row * width + column)[same]
    return found


def leak(split: TokenSplit, grid: TokenGrid, frames: np.ndarray, found: np.ndarray) -> Leak:
    """What a mask leaks of a clip.

    Args:
      split: its visible tokens and its targets; of the latter those that are not visible are measured.
      grid: how the clip is cut.
      frames: uint8 [T, H, W, 3].
      found: `places` of its scene.
    """
    pixels = frames.reshape(grid.frames, -1, 3).astype(np.float32) / 255
    visible, target = (_of_pixels(np.asarray(tokens), grid) for tokens in split)
    points = (slice(None), slice(None, None, _EVERY), slice(None, None, _EVERY))
    hidden = (target & ~visible)[points]
    mean = pixels[visible.reshape(grid.frames, -1)].mean(0)
    flat = visible.reshape(grid.frames, -1)
    copied = np.broadcast_to(mean, (*hidden.shape, 3)).copy()
    seen = np.zeros(hidden.shape, bool)
    for t in range(grid.frames):
        for s in np.argsort(np.abs(np.arange(grid.frames) - t), kind="stable"):  # the nearest first
            place = found[s, t]
            new = (place >= 0) & flat[s][place] & ~seen[t]
            copied[t][new] = pixels[s][place[new]]
            seen[t] |= new
    truth = frames[points][hidden].astype(np.float32) / 255
    nearest = np.asarray(_nearest_copied(split, jnp.asarray(frames), grid))[points][hidden].astype(np.float32) / 255
    total = np.square(truth - mean).sum()
    explained = [1 - float(np.square(truth - guess).sum() / total) for guess in (copied[hidden], nearest)]
    return Leak(float(seen[hidden].mean()), *explained)


def _of_pixels(tokens: np.ndarray, grid: TokenGrid) -> np.ndarray:
    """Whether each pixel belongs to one of the tokens: bool [T, H, W]."""
    among = np.isin(np.arange(grid.tokens), tokens).reshape(grid.tubelets, grid.rows, grid.columns)
    return among.repeat(grid.tubelet, 0).repeat(grid.patch, 1).repeat(grid.patch, 2)


@functools.partial(jax.jit, static_argnums=2)
def _nearest_copied(split: TokenSplit, frames: Array, grid: TokenGrid) -> Array:
    """The clip with the nearest visible cube in the place of each target."""
    cubes = patchify(frames, grid)
    return unpatchify(cubes.at[split.target].set(cubes[split.visible][nearest_visible(split, grid)]), grid)


def measure_leakage(
    config: ConfigDict, strategies: Sequence[str], flow_params: Mapping[str, Any], videos: int, masks: int
) -> list[dict[str, Any]]:
    """Measures strategies on the same clips, moving ones and still ones, each with masks from the same keys.

    Args:
      config: clip, model, mask and flow; `seed` is that of videos and masks.
      strategies: names in `STRATEGIES`; those that learn are measured as they begin.
      flow_params: RAFT's parameters, or an empty dict if it does not run.
      videos: how many, 2 or more.
      masks: how many of each clip.

    Returns:
      For each set and way "set", "name", the fields of `Leak` and, if tube masks are measured, "seen_beyond_tube", each
      as "mean" and "error", the standard error over the videos.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    measured = ways(config, strategies)
    key = jax.random.key(config.seed)
    draws = [jax.jit(_splits(way.step)) for way in measured]
    rows = []
    for kind in SETS:
        values = np.empty((len(measured), videos, len(Leak._fields)))
        for index in range(videos):
            scene = clip_scene(config.seed, index, measured[0].step.grid, config.clip.stride, kind == "moving")
            frames, found = draw(scene), places(scene)
            keys = per_example(stream(key, index, "mask"), 0, masks)
            for row, (way, drawn) in enumerate(zip(measured, draws, strict=True)):
                splits = jax.device_get(drawn(flow_params, frames, _given(way, scene, frames), keys))
                each = [TokenSplit(*one) for one in zip(*splits, strict=True)]
                values[row, index] = np.mean([leak(split, way.step.grid, frames, found) for split in each], 0)
        tube = next((row for row, way in enumerate(measured) if way.name == "tube"), None)
        for way, by_video in zip(measured, values, strict=True):
            numbers = {name: _mean(by_video[:, i]) for i, name in enumerate(Leak._fields)}
            if tube is not None:
                numbers["seen_beyond_tube"] = _mean(by_video[:, 0] - values[tube, :, 0])
            rows.append({"set": kind, "name": way.name, **numbers})
    return rows


def _splits(step: MaskStep) -> Any:
    """(RAFT's parameters, clip, given flow, keys) -> a split for each key."""

    def splits(flow_params: Any, clip: Array, given: Any, keys: Key[Array, "K"]) -> TokenSplit:
        flow = step.flow_of(flow_params, keys[0], clip, given)
        own = step.init(keys[0], step.grid.cube_values)
        drawn: TokenSplit = jax.vmap(lambda key: draw_mask(step.ask_one(own, clip, flow, key)))(keys)
        return drawn

    return splits


def _given(way: Way, scene: Scene, frames: np.ndarray) -> Any:
    """The flow that comes with a clip; None if none does."""
    if way.flow is None:
        return None
    grid, mask = way.step.grid, way.step.mask
    if isinstance(way.flow, FlowSpec) and way.flow.source != "stored":
        return host_clip_flow(frames, way.flow)
    both = np.stack([scene_flow(scene), scene_flow(scene, backward=True)], 1)
    if isinstance(way.flow, FlowSpec):
        cells = (-(-grid.height // _FLOW_CELL), -(-grid.width // _FLOW_CELL))
        steps = np.stack([to_cells(pair, *cells) for pair in both])
        box = CropBox(0, 0, grid.height, grid.width)
        stored = StoredFlow(steps, 0, cell_grid(*cells))
        return packed(stored_clip_flow(stored, np.arange(grid.frames), way.flow, box, scene.size))
    if way.step.given_both_ways:
        return both.swapaxes(0, 1)
    if way.step.given_both_ways:
        return both.swapaxes(0, 1)
    base = base_frame(jax.random.key(0), grid.frames, mask)
    source, target = FlowSpec(int(base), mask.direction).pairs(grid.frames)
    return np.where((source < target)[:, None, None, None], both[:, 0], both[:, 1])


def _mean(values: np.ndarray) -> dict[str, float]:
    """Mean and standard error over videos."""
    return {"mean": float(values.mean()), "error": float(values.std(ddof=1) / np.sqrt(len(values)))}
