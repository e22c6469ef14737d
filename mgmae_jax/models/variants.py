"""The sizes of the published models (VideoMAE, VideoMAE V2, MGMAE), and small ones for demos and tests."""

import dataclasses
import re

from ml_collections import ConfigDict

from mgmae_jax.errors import ConfigError
from mgmae_jax.models.layers import NORM_EPS


@dataclasses.dataclass(frozen=True)
class Variant:
    """Width, depth and heads of encoder and decoder; `mlp` is the width of the encoder's MLP.

    `eps` is that of the norms, except for the classifier's norm after the mean and the decoder's last one, which have
    `last_eps`: Hugging Face's models have other values there than the published ones.
    """

    width: int
    depth: int
    heads: int
    mlp: int
    decoder_width: int
    decoder_heads: int
    eps: float = NORM_EPS
    last_eps: float = NORM_EPS


VARIANTS = {
    "micro": Variant(128, 3, 2, 512, 64, 2),
    "tiny": Variant(192, 4, 3, 768, 96, 3),
    "vit_s": Variant(384, 12, 6, 1536, 192, 3),
    "vit_b": Variant(768, 12, 12, 3072, 384, 6),
    "vit_l": Variant(1024, 24, 16, 4096, 512, 8),
    "vit_h": Variant(1280, 32, 16, 5120, 512, 8),
    "vit_h_videomae": Variant(1280, 32, 16, 5120, 640, 8),  # the same encoder, with VideoMAE's own, wider decoder
    # 48/11 times 1408; made for patches of 14 pixels.
    "vit_g": Variant(1408, 40, 16, 6144, 512, 8),
}
_SIZES = re.compile(r"(\d{1,5})/(\d{1,4})/(\d{1,4})/(\d{1,6})/(\d{1,5})/(\d{1,4})")


def find_variant(name: str) -> Variant:
    """The variant called `name`, or the one whose sizes it spells, as `variant_name` does.

    Raises:
      ConfigError: there is no such variant, or a width cannot be divided by its heads.
    """
    if name in VARIANTS:
        return VARIANTS[name]
    if not (sizes := _SIZES.fullmatch(name)):
        spelled = "sizes as WIDTH/DEPTH/HEADS/MLP/DECODER_WIDTH/DECODER_HEADS"
        raise ConfigError("model.name", name, "one of " + ", ".join(VARIANTS) + f", or {spelled}")
    found = Variant(*map(int, sizes.groups()))
    pairs = ((found.width, found.heads), (found.decoder_width, found.decoder_heads))
    if min(map(int, sizes.groups())) < 1 or any(width % heads for width, heads in pairs):
        raise ConfigError("model.name", name, "sizes of 1 or more, and heads that divide their widths")
    return found


def variant_name(variant: Variant) -> str:
    """What `find_variant` finds these sizes by: a name, or else the sizes themselves."""
    sizes = dataclasses.replace(variant, eps=NORM_EPS, last_eps=NORM_EPS)
    spelled = "/".join(str(size) for size in dataclasses.astuple(sizes)[:6])
    return next((name for name, known in VARIANTS.items() if known == sizes), spelled)


def variant_of(model: ConfigDict) -> Variant:
    """The variant that config.model describes; only converted models say `norm_eps` and `last_norm_eps`.

    Raises:
      ConfigError: see `find_variant`; or an eps is out of range.
    """
    eps = {field: model.get(field, NORM_EPS) for field in ("norm_eps", "last_norm_eps")}
    for field, value in eps.items():
        if not 0 < value < 1:
            raise ConfigError(f"model.{field}", value, "a number above 0 and below 1")
    return dataclasses.replace(find_variant(model.name), eps=eps["norm_eps"], last_eps=eps["last_norm_eps"])
