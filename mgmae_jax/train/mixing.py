"""Mixup and cutmix of a batch, and label smoothing, on the device."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from mgmae_jax.errors import ConfigError


class Mixing(NamedTuple):
    """How the clips of a batch are mixed with their partners.

    Attributes:
      share: the weight of a clip's own label, from 0 to 1; the rest is its partner's.
      blend: the weight of a clip's own pixels outside the box; the rest is its partner's.
      box: first row, row after the last, first column, column after the last of the part that shows only the partner.
    """

    share: Float[Array, ""]
    blend: Float[Array, ""]
    box: Int[Array, "4"]


@dataclasses.dataclass(frozen=True)
class MixOptions:
    """How batches are mixed, like timm's batch mode.

    Attributes:
      mixup: both parameters of the Beta distribution that mixup's share is drawn from; 0 for no mixup.
      cutmix: both parameters of the Beta distribution that cutmix's share is drawn from; 0 for no cutmix.
      prob: probability that a batch is mixed at all.
      switch: probability of cutmix if both are on.
      smoothing: share of a label that is spread over all classes.

    Raises:
      ConfigError: a field is out of range.
    """

    mixup: float = 0.8
    cutmix: float = 1.0
    prob: float = 1.0
    switch: float = 0.5
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        for field in ("mixup", "cutmix"):
            if not 0 <= getattr(self, field) < float("inf"):
                raise ConfigError(f"mix.{field}", getattr(self, field), "0 or more")
        for field in ("prob", "switch"):
            if not 0 <= getattr(self, field) <= 1:
                raise ConfigError(f"mix.{field}", getattr(self, field), "a probability from 0 to 1")
        if not 0 <= self.smoothing < 1:
            raise ConfigError("mix.smoothing", self.smoothing, "from 0 to below 1")

    @property
    def mixes(self) -> bool:
        """Whether any batch is mixed."""
        return self.prob > 0 and (self.mixup > 0 or self.cutmix > 0)


def draw_mixing(key: Key[Array, ""], options: MixOptions, height: int, width: int) -> Mixing:
    """Draws how one batch is mixed: by mixup (Zhang et al., 2018), by cutmix (Yun et al., 2019) or not at all.

    Args:
      key: the batch's key.
      options: how to mix; mixup or cutmix is above 0.
      height: the clips' height, in pixels.
      width: the clips' width, in pixels.
    """
    keys = jax.random.split(key, 5)
    mix = jax.random.uniform(keys[0]) < options.prob
    switch = options.switch if options.mixup and options.cutmix else float(options.cutmix > 0)
    cut = mix & (jax.random.uniform(keys[1]) < switch)
    alpha = jnp.where(cut, options.cutmix or 1.0, options.mixup or 1.0)
    share = jnp.where(mix, jax.random.beta(keys[2], alpha, alpha), 1.0)
    # The box has 1 - share of the area, before it is clipped at the frame's edges.
    side = jnp.where(cut, jnp.sqrt(1 - share), 0.0)
    ends = []
    for key, length in zip(keys[3:], (height, width), strict=True):
        half = (side * length).astype(jnp.int32) // 2
        centre = jax.random.randint(key, (), 0, length)
        ends += [jnp.clip(centre - half, 0, length), jnp.clip(centre + half, 0, length)]
    box = jnp.stack(ends)
    area = ((box[1] - box[0]) * (box[3] - box[2])).astype(jnp.float32)
    return Mixing(
        share=jnp.where(cut, 1 - area / (height * width), share),
        blend=jnp.where(cut, 1.0, share),
        box=box,
    )


def mix_clips(
    clips: Float[Array, "B T H W 3"], partners: Float[Array, "B T H W 3"], mixing: Mixing
) -> Float[Array, "B T H W 3"]:
    """Mixes each clip with its partner."""
    height, width = clips.shape[2:4]
    top, bottom, left, right = mixing.box
    rows, columns = jnp.arange(height), jnp.arange(width)
    inside = ((rows >= top) & (rows < bottom))[:, None] & ((columns >= left) & (columns < right))[None]
    own = jnp.where(inside, 0.0, mixing.blend).reshape(1, 1, height, width, 1)
    return own * clips + (1 - own) * partners


def soft_labels(
    labels: Int[Array, "B"], partners: Int[Array, "B"], share: Float[Array, ""] | float, classes: int, smoothing: float
) -> Float[Array, "B classes"]:
    """Target distributions of mixed clips: each row's sum is 1.

    Args:
      labels: the labels of the clips.
      partners: the labels of the clips that they are mixed with.
      share: the weight of the own label.
      classes: how many there are.
      smoothing: see `MixOptions`.
    """

    def smooth(labels: Int[Array, "B"]) -> Float[Array, "B classes"]:
        return jax.nn.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes

    return smooth(labels) * share + smooth(partners) * (1 - share)
