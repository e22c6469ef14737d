"""Which of a model's parameters other programs have a place for."""

import jax
import numpy as np
import pytest
from flax import traverse_util
from ml_collections import ConfigDict

from mgmae_jax.errors import WeightsError
from mgmae_jax.interop.export import parts_of
from mgmae_jax.runtime.weights import Leaf, Weights
from tests.train.tiny import VARIANT, tiny_pretraining

SIZES = "/".join(str(size) for size in (VARIANT.width, VARIANT.depth, VARIANT.heads))


def weights_of(strategy: str, **more: tuple[int, ...]) -> Weights:
    """A pre-trained model's parameters, without values."""
    params = jax.eval_shape(tiny_pretraining(strategy=strategy).init, jax.random.key(0)).params
    shapes = {name: leaf.shape for name, leaf in traverse_util.flatten_dict(params, sep=".").items()} | more
    config = ConfigDict({"model": {"name": f"{SIZES}/48/12/2", "decoder_depth": 1}})
    leaves = {name: Leaf(shape, lambda shape=shape: np.zeros(shape)) for name, shape in shapes.items()}
    return Weights("a run", config, None, leaves, {}, True)


def test_the_parameters_of_a_masking_strategy_stay_behind():
    weights = weights_of("adamae")
    assert "mask.positions" in weights.leaves
    assert parts_of(weights) == parts_of(weights_of("tube"))


def test_a_parameter_that_others_do_not_have_is_named():
    with pytest.raises(WeightsError, match=r"has encoder\.more, which has no place"):
        parts_of(weights_of("tube", **{"encoder.more": (3,)}))
