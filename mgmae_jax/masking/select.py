"""From a visibility volume to the tokens that the encoder sees (section 3.3; Table 1c)."""

import decimal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mgmae_jax.errors import ConfigError
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit

_DIGITS_UP, _DIGITS_DOWN = (decimal.Context(4, rounding) for rounding in (decimal.ROUND_UP, decimal.ROUND_DOWN))


def visible_per_tubelet(ratio: float, grid: TokenGrid) -> int:
    """Visible tokens of each tubelet: floor((1 - ratio) * h * w), which is 19 of 196 for 224 pixels and a ratio of 0.9.

    Raises:
      ConfigError: no token, or every token, would be visible, as with any ratio where a tubelet has one token.
    """
    tokens, some = grid.per_tubelet, "are hidden and some visible"
    if tokens == 1:
        raise ConfigError("clip.size", grid.height, f"more than model.patch={grid.patch}, so that some tokens {some}")
    # (1 - 0.9) * 10 is 0.99..98 in floating point, but should be 1.
    count = int((1 - ratio) * tokens + 1e-6) if 0 < ratio < 1 else 0
    if not 0 < count < tokens:
        # Rounded to the side that works.
        least, most = _DIGITS_UP.divide(1, tokens), _DIGITS_DOWN.divide(tokens - 1, tokens)
        raise ConfigError("mask.ratio", ratio, f"from {least} to {most}, so that some of {tokens} tokens {some}")
    return count


def frame_scores(volume: Float[Array, "T h w"], grid: TokenGrid) -> Float[Array, "T N"]:
    """Mean visibility of every token's area in every single frame, over its pixels or regularly spaced points."""
    tiles = volume.reshape(
        grid.frames, grid.rows, volume.shape[1] // grid.rows, grid.columns, volume.shape[2] // grid.columns
    )
    return tiles.mean(axis=(2, 4)).reshape(grid.frames, grid.per_tubelet)


def token_scores(scores: Float[Array, "T N"], grid: TokenGrid) -> Float[Array, "t N"]:
    """Mean over the frames of each tubelet; with `frame_scores` the paper's average pooling with kernel 2 x 16 x 16."""
    return scores.reshape(grid.tubelets, grid.tubelet, grid.per_tubelet).mean(axis=1)


def expose_one_frame(key: Key[Array, ""], scores: Float[Array, "T N"], scale: float) -> Float[Array, "T N"]:
    """Adds Gaussian noise to one random frame ("Exposure of masked objects", section 4.2).

    The noise's standard deviation is `scale` times that of the frame's scores; the paper gives no value.
    """
    key_frame, key_noise = jax.random.split(key)
    frame = jax.random.randint(key_frame, (), 0, scores.shape[0])
    noise = jax.random.normal(key_noise, scores.shape[1:]) * scale * scores[frame].std()
    return scores.at[frame].add(noise)


def highest(key: Key[Array, ""], scores: Float[Array, "N"], count: int) -> Int[Array, "{count}"]:
    """Indices of the `count` highest scores; ties are broken at random by `key`."""
    shuffled = jax.random.permutation(key, jnp.arange(scores.shape[0], dtype=jnp.int32))
    # top_k takes the first of equal scores, so they are shuffled before it.
    _, place = jax.lax.top_k(scores[shuffled], count)
    return shuffled[place]


def select_by_tubelet(key: Key[Array, ""], scores: Float[Array, "t N"], count: int) -> Int[Array, "V"]:
    """The `count` highest tokens of each tubelet (the paper's frame level), as indices into the clip.

    Ties are broken in the same order in all tubelets, so that what stands still gets a tube.
    """
    tubelets, per_tubelet = scores.shape
    chosen = jax.vmap(lambda scores: highest(key, scores, count))(scores)
    return (chosen + jnp.arange(tubelets, dtype=jnp.int32)[:, None] * per_tubelet).reshape(-1)


def split_tokens(visible: Int[Array, "V"], grid: TokenGrid) -> TokenSplit:
    """Sorts the visible indices; every other token becomes a target."""
    hidden = jnp.ones(grid.tokens, jnp.int32).at[visible].set(0)
    order = jnp.argsort(hidden, stable=True).astype(jnp.int32)
    return TokenSplit(order[: visible.shape[0]], order[visible.shape[0] :])
