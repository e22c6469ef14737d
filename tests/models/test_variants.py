import dataclasses

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from mgmae_jax.errors import ConfigError
from mgmae_jax.models.mae import MaskedAutoencoder
from mgmae_jax.models.variants import VARIANTS, Variant, find_variant, variant_name, variant_of
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit


def parameter_count(name: str, decoder_depth: int) -> int:
    """Of the pre-training model on the paper's clips; nothing is computed."""
    grid = TokenGrid(16, 224, 224, patch=14 if name == "vit_g" else 16)
    model = MaskedAutoencoder(find_variant(name), grid, decoder_depth)
    split = TokenSplit(jnp.zeros((1, 152), jnp.int32), jnp.zeros((1, grid.tokens - 152), jnp.int32))
    cubes = jax.ShapeDtypeStruct((1, 152, grid.cube_values), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), cubes, split)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def expected_count(name: str, decoder_depth: int) -> int:
    size, cube = VARIANTS[name], 2 * (14 if name == "vit_g" else 16) ** 2 * 3

    def blocks(width: int, depth: int, mlp: int) -> int:
        attention = 3 * width**2 + 2 * width + width**2 + width
        norms = 4 * width
        return depth * (attention + norms + 2 * width * mlp + width + mlp) + 2 * width

    wide, narrow = size.width, size.decoder_width
    ends = (cube + 1) * wide + wide * narrow + narrow + (narrow + 1) * cube
    return blocks(wide, size.depth, size.mlp) + blocks(narrow, decoder_depth, 4 * narrow) + ends


def test_vit_b_has_the_published_number_of_parameters():
    assert parameter_count("vit_b", 4) == 94_210_944


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_builds(name: str):
    assert parameter_count(name, 1) == expected_count(name, 1)


def test_an_unknown_variant_is_an_error_that_lists_those_there_are():
    with pytest.raises(ConfigError, match=r"config.model.name='vit_x': give one of micro, tiny, vit_s, vit_b"):
        find_variant("vit_x")


def test_sizes_can_be_spelled():
    spelled = find_variant("48/3/4/192/24/2")
    assert spelled == Variant(48, 3, 4, 192, 24, 2)
    assert variant_name(spelled) == "48/3/4/192/24/2"
    for name, variant in VARIANTS.items():
        assert variant_name(dataclasses.replace(variant, eps=1e-12)) == name
    for wrong in ("48/3/5/192/24/2", "48/3/4/192/24/5", "48/0/4/192/24/2", "48/3/4/192/24"):
        with pytest.raises(ConfigError, match=r"config\.model\.name="):
            find_variant(wrong)


def test_only_converted_models_have_another_eps():
    assert variant_of(ConfigDict({"name": "tiny"})) == VARIANTS["tiny"]
    model = ConfigDict({"name": "tiny", "norm_eps": 1e-12, "last_norm_eps": 1e-5})
    assert variant_of(model) == dataclasses.replace(VARIANTS["tiny"], eps=1e-12, last_eps=1e-5)
    with pytest.raises(ConfigError, match=r"config\.model\.norm_eps=0"):
        variant_of(ConfigDict({"name": "tiny", "norm_eps": 0}))
