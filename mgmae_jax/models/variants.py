"""The sizes of the published models (VideoMAE, VideoMAE V2, MGMAE), and small ones for demos and tests."""

import dataclasses

from mgmae_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Variant:
    """Width, depth and heads of encoder and decoder; `mlp` is the width of the encoder's MLP."""

    width: int
    depth: int
    heads: int
    mlp: int
    decoder_width: int
    decoder_heads: int


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


def find_variant(name: str) -> Variant:
    """The variant called `name`.

    Raises:
      ConfigError: there is no such variant.
    """
    if name not in VARIANTS:
        raise ConfigError("model.name", name, "one of " + ", ".join(VARIANTS))
    return VARIANTS[name]
