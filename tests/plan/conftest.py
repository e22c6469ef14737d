from collections.abc import Callable

import pytest
from ml_collections import ConfigDict

from mgmae_jax.commands.config_file import load_config
from tests.train.conftest import optax_promotes

__all__ = ["optax_promotes"]  # for every test here: optimisers are optax's


@pytest.fixture
def small() -> Callable[..., ConfigDict]:
    """A pre-training config that compiles in seconds, with parameters large enough to be split."""

    def build(*overrides: str) -> ConfigDict:
        fields = ["model.name=tiny", "model.decoder_depth=1", "clip.frames=4", "clip.size=32", "mask.ratio=0.5"]
        fields += ["mask.strategy=tube", "flow.source=none", "train.batch_size=16", "train.epochs=100.0"]
        return load_config("pretrain/common", [f"--config.{field}" for field in (*fields, *overrides)])

    return build
