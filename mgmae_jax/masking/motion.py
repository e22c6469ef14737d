"""Motion guided masking (section 3.3): a base frame's map of visibility, carried along the flow to every frame."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mgmae_jax.errors import ConfigError
from mgmae_jax.masking import base_map
from mgmae_jax.masking.mask_input import DRAWS, MaskInput, MaskOptions, base_frame
from mgmae_jax.masking.select import (
    expose_one_frame,
    frame_scores,
    highest,
    select_by_tubelet,
    token_scores,
    visible_per_tubelet,
)
from mgmae_jax.masking.trajectory import FILLS, trajectory_volume
from mgmae_jax.masking.volume import visibility_volume
from mgmae_jax.ops.sampling import resample_cells
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.runtime.rng import named_key


def check_motion(grid: TokenGrid, options: MaskOptions) -> None:
    """Checks the choices that go together.

    Raises:
      ConfigError: two of them do not.
    """
    if options.preset == "released_code" and options.warp != "backward":
        raise ConfigError("mask.warp", options.warp, "backward with mask.preset=released_code, which has no other")
    if options.occlusion != "none" and (options.warp == "forward" or options.preset == "released_code"):
        want = "none with mask.warp=forward and with mask.preset=released_code, whose holes are others"
        raise ConfigError("mask.occlusion", options.occlusion, want)
    if options.follows_points:
        for field, allowed in (("init", ("gaussian",)), ("hole_fill", FILLS)):
            if (value := getattr(options, field)) not in allowed:
                want = f"{' or '.join(allowed)} with mask.warp=trajectory, or set mask.warp=backward"
                raise ConfigError(f"mask.{field}", value, want)
        points_of(grid, options)


def motion_volume(
    key: Key[Array, ""], grid: TokenGrid, flow: Float[Array, "P h w xy=2"], options: MaskOptions
) -> Float[Array, "T y x"]:
    """The visibility volume of one clip, as `motion` samples from it.

    Args:
      key: the mask's key.
      grid: how the clip is cut.
      flow: see `MaskInput.flow`, `visibility_volume` and `trajectory_volume`.
      options: config.mask.

    Returns:
      Visibility of every pixel, or with trajectories of points `options.spacing` pixels apart.
    """
    key_map, key_holes = jax.random.split(named_key(key, "map", DRAWS))
    count = visible_per_tubelet(options.ratio, grid)
    if options.follows_points:
        tokens = base_map.random_tokens(key_map, grid, count)
        flow, other = _ways(resample_cells(flow, *points_of(grid, options)), grid, options)
        with jax.named_scope("volume"):
            return trajectory_volume(
                base_map.token_centres(tokens, grid),
                flow,
                base_frame(key, grid.frames, options),
                height=grid.height,
                width=grid.width,
                sigma=float(grid.patch),
                hole_fill=options.hole_fill,
                other=other,
            )
    released = options.preset == "released_code"
    if options.init == "pixel":
        start = base_map.pixel_map(key_map, grid, int((1 - options.ratio) * grid.height * grid.width + 1e-6))
    else:
        # When it draws the centres, the released code rounds the hidden tokens down (20 visible for 224 pixels and
        # 0.9).
        centres = grid.per_tubelet - int(options.ratio * grid.per_tubelet) if released else count
        tokens = base_map.random_tokens(key_map, grid, centres)
        if options.init == "token":
            start = base_map.token_map(tokens, grid)
        else:
            gaussian = base_map.gaussian_maximum if released else base_map.gaussian_mixture
            start = gaussian(base_map.token_centres(tokens, grid), grid, float(grid.patch))
    if released and options.init != "gaussian":
        # Its holes are zeros, so the map itself has none.
        start = jnp.maximum(start, 1e-8)
    return warp_volume(start, grid, flow, base_frame(key, grid.frames, options), key_holes, options)


def points_of(grid: TokenGrid, options: MaskOptions) -> tuple[int, int]:
    """How many points a frame has down and across, `options.spacing` pixels apart.

    Raises:
      ConfigError: a token cannot have the same points as every other.
    """
    if options.spacing < 1 or grid.patch % options.spacing:
        raise ConfigError("mask.spacing", options.spacing, f"a divisor of model.patch={grid.patch}")
    return grid.height // options.spacing, grid.width // options.spacing


def warp_volume(
    start: Float[Array, "H W"],
    grid: TokenGrid,
    flow: Float[Array, "P H W xy=2"],
    base: int | Int[Array, ""],
    key: Key[Array, ""],
    options: MaskOptions,
) -> Float[Array, "T H W"]:
    """The volume of a given base map, by the rules in the options; not with trajectories, which warp no map."""
    if options.warp == "trajectory":
        raise ValueError("mask.warp=trajectory evaluates Gaussians and warps no map: call trajectory_volume")
    flow, other = _ways(flow, grid, options)
    released = options.preset == "released_code"
    if released:
        # The released code's sampler divides by W / 2 on a grid that spans W - 1 pixels.
        shrink = jnp.array([(grid.width - 1) / grid.width, (grid.height - 1) / grid.height], jnp.float32)
        flow = flow * shrink.reshape(1, 1, 1, 2)
    with jax.named_scope("volume"):
        return visibility_volume(
            start,
            flow,
            base,
            key,
            warp=options.warp,
            hole_fill=options.hole_fill,
            ratio=options.ratio,
            zero_is_hole=released,
            other=other,
        )


def _ways(
    flow: Float[Array, "_ h w xy=2"], grid: TokenGrid, options: MaskOptions
) -> tuple[Float[Array, "P h w xy=2"], Float[Array, "P h w xy=2"] | None]:
    """The flow of every pair, and that of the same pairs the other way if occlusions are looked for."""
    if options.occlusion == "none":
        return flow, None
    pairs = grid.frames - 1
    if len(flow) != 2 * pairs:
        raise ValueError(f"mask.occlusion=consistency needs flow both ways, [{2 * pairs}, h, w, 2]")
    return flow[:pairs], flow[pairs:]


def select_visible(
    key: Key[Array, ""], grid: TokenGrid, volume: Float[Array, "T h w"], options: MaskOptions
) -> Int[Array, "V"]:
    """The visible tokens of a volume, of pixels or points, unsorted."""
    key_expose, key_ties = jax.random.split(named_key(key, "select", DRAWS))
    count = visible_per_tubelet(options.ratio, grid)
    scores = frame_scores(volume, grid)
    if options.exposure:
        scores = expose_one_frame(key_expose, scores, options.exposure)
    scores = token_scores(scores, grid)
    with jax.named_scope("top_k"):
        if options.select == "tubelet":
            return select_by_tubelet(key_ties, scores, count)
        return highest(key_ties, scores.reshape(-1), count * grid.tubelets)


def motion(ask: MaskInput) -> Int[Array, "V"]:
    """Motion guided masking: the tokens that stay most visible when the base frame's map is carried along the flow."""
    return select_visible(ask.key, ask.grid, _motion_volume(ask), ask.options)


def _motion_volume(ask: MaskInput) -> Float[Array, "T y x"]:
    if ask.flow is None:
        raise ValueError("motion masking needs flow [T - 1, H, W, 2]")
    return motion_volume(ask.key, ask.grid, ask.flow, ask.options)


def motion_picture(ask: MaskInput) -> Float[Array, "T H W"]:
    """The volume that `motion` samples from, at every pixel."""
    return resample_cells(_motion_volume(ask)[..., None], ask.grid.height, ask.grid.width)[..., 0]
