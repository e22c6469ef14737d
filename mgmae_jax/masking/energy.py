"""Masks by how much moves: the most moving tokens, by the flow or by the difference of frames, are visible or hidden.

Neither is one paper's method. To draw visible tokens by motion energy, with a temperature, is among the choices in the
program of Counterfactual World Models (2023, arXiv 2306.01828). To hide what moves is the idea of MGM (Fan et al.,
"Motion-Guided Masking for Spatiotemporal Representation Learning", ICCV 2023, arXiv 2308.12962), which hides a
rectangle of each frame, found by the codec's motion vectors. MotionMAE (arXiv 2210.04154) and MME (CVPR 2023, arXiv
2210.06096) predict motion, and do not mask by it. Energy is not relative to the camera: if that moves, the whole frame
has energy.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mgmae_jax.errors import ConfigError
from mgmae_jax.masking.mask_input import DRAWS, MaskInput, MaskOptions, base_frame
from mgmae_jax.masking.motion import points_of
from mgmae_jax.masking.select import frame_scores, highest, select_by_tubelet, token_scores
from mgmae_jax.ops.pairs import neighbour_pairs
from mgmae_jax.ops.sampling import resample_cells
from mgmae_jax.ops.tokens import TokenGrid, unit_range
from mgmae_jax.runtime.rng import named_key

_STILL = 1e-3  # a standard deviation below this share of the mean may be rounding alone


def check_difference(grid: TokenGrid, options: MaskOptions) -> None:
    """Checks that there are two frames to compare, or to have flow between them.

    Raises:
      ConfigError: the clip has one frame.
    """
    if grid.frames < 2:
        raise ConfigError("clip.frames", grid.frames, f"2 or more with mask.strategy={options.strategy}")


def check_energy(grid: TokenGrid, options: MaskOptions) -> None:
    """Checks that each token has points of the flow.

    Raises:
      ConfigError: `mask.spacing` does not divide a patch.
    """
    if options.follows_points:
        points_of(grid, options)


def motion_energy(ask: MaskInput) -> Int[Array, "V"]:
    """The tokens with the largest, or smallest, mean magnitude of the flow over their area (`mask.prefer`)."""
    return select_by_energy(ask, flow_magnitude(ask))


def frame_difference(ask: MaskInput) -> Int[Array, "V"]:
    """The tokens with the largest, or smallest, mean absolute difference to the neighbouring frames; needs no flow."""
    return select_by_energy(ask, absolute_difference(ask))


def flow_magnitude(ask: MaskInput) -> Float[Array, "T h w"]:
    """The magnitude of each frame's own flow in pixels, at every pixel, or with trajectories at their points.

    A frame that no flow starts in, as the base frame with flow towards it, has the mean of the flows that end in it.
    """
    if ask.flow is None:
        raise ValueError("motion energy needs flow [T - 1, H, W, 2]")
    base = base_frame(ask.key, ask.grid.frames, ask.options)
    source, target = neighbour_pairs(ask.grid.frames, base, ask.options.direction)
    own, ends = (_members(frames, ask.grid) for frames in (source, target))
    with jax.named_scope("energy"):
        magnitude = jnp.linalg.norm(ask.flow, axis=-1)
        if ask.options.follows_points:
            magnitude = resample_cells(magnitude[..., None], *points_of(ask.grid, ask.options))[..., 0]
        return _mean_over_pairs(magnitude, jnp.where(own.any(axis=1, keepdims=True), own, ends))


def magnitude_picture(ask: MaskInput) -> Float[Array, "T H W"]:
    """What `motion_energy` selects by, at every pixel."""
    return resample_cells(_preferred(ask, flow_magnitude(ask))[..., None], ask.grid.height, ask.grid.width)[..., 0]


def difference_picture(ask: MaskInput) -> Float[Array, "T H W"]:
    """What `frame_difference` selects by, at every pixel."""
    return _preferred(ask, absolute_difference(ask))


def _preferred(ask: MaskInput, energy: Float[Array, "T h w"]) -> Float[Array, "T h w"]:
    """Higher where tokens are to be visible."""
    return energy if ask.options.prefer == "visible" else -energy


def absolute_difference(ask: MaskInput) -> Float[Array, "T H W"]:
    """The absolute difference in [0, 1] of each frame's pixels to the frames before and after it, mean over colours."""
    if ask.clip is None:
        raise ValueError("frame differences need a clip [T, H, W, 3]")
    pair = np.arange(ask.grid.frames - 1, dtype=np.int32)
    with jax.named_scope("energy"):
        clip = unit_range(ask.clip)
        difference = jnp.abs(clip[1:] - clip[:-1]).mean(axis=-1)
        return _mean_over_pairs(difference, _members(pair, ask.grid) | _members(pair + 1, ask.grid))


def _members(frames: Array | np.ndarray, grid: TokenGrid) -> Bool[Array, "T P"]:
    """Whether a frame is the one that is named for a pair."""
    return jnp.arange(grid.frames, dtype=jnp.int32)[:, None] == jnp.asarray(frames)[None]


def _mean_over_pairs(values: Float[Array, "P h w"], belongs: Bool[Array, "T P"]) -> Float[Array, "T h w"]:
    """For every frame, the mean of the values of the pairs that belong to it, of which there is at least one."""
    share = belongs.astype(jnp.float32)
    share = share / share.sum(axis=1, keepdims=True)
    return jnp.einsum("tp,phw->thw", share, values, precision=jax.lax.Precision.HIGHEST)


def select_by_energy(ask: MaskInput, energy: Float[Array, "T h w"]) -> Int[Array, "V"]:
    """The tokens of the highest energy, or with `mask.prefer=hidden` of the lowest.

    With `mask.temperature` 0 these are exactly the first, ties broken by the key. Above 0 they are drawn without
    replacement (Gumbel's top-k; Kool et al., ICML 2019), in proportion to exp(energy / temperature); the energies of a
    clip's tokens are given mean 0 and variance 1 before, so that a temperature means the same for every clip.

    Args:
      ask: its key, grid and options `prefer`, `temperature` and `select` are used: as many tokens of each tubelet, or
        those of the whole clip.
      energy: 0 or more, at every pixel or at regularly spaced points.
    """
    key_noise, key_ties = jax.random.split(named_key(ask.key, "select", DRAWS))
    scores = token_scores(frame_scores(_preferred(ask, energy), ask.grid), ask.grid)
    options = ask.options
    if options.temperature:
        mean = scores.mean()
        spread = jnp.maximum(scores.std(), _STILL * jnp.abs(mean)) * options.temperature
        scores = (scores - mean) / jnp.maximum(spread, jnp.finfo(jnp.float32).tiny)  # the spread may be 0
        scores = scores + jax.random.gumbel(key_noise, scores.shape)
    with jax.named_scope("top_k"):
        if options.select == "tubelet":
            return select_by_tubelet(key_ties, scores, ask.per_tubelet)
        return highest(key_ties, scores.reshape(-1), ask.count)
