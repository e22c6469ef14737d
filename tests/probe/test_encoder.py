import jax
import jax.numpy as jnp
import numpy as np

from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.models.classifier import PretrainedEncoder
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.probe.encoder import FrozenEncoder
from tests.train.tiny import VARIANT


def test_means_of_tubelets_come_in_the_order_of_time_and_average_to_the_mean_of_all():
    grid = TokenGrid(6, 32, 32, patch=8)
    model = PretrainedEncoder(VARIANT, grid)
    clips = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 6, 32, 32, 3), np.uint8))
    params = jax.jit(model.init)(jax.random.key(0), clips)["params"]
    encoder = FrozenEncoder(model, params, ClipSpec(6, 1, 32), {})
    tokens, tubelets, pooled = (
        np.asarray(jax.jit(encoder.function(what))(params, clips)) for what in ("tokens", "tubelets", "pooled")
    )
    assert tubelets.shape[1:] == encoder.shape("tubelets") == (3 * VARIANT.width,)
    apart = tubelets.reshape(2, 3, VARIANT.width)
    np.testing.assert_allclose(apart, tokens.reshape(2, 3, 16, -1).mean(axis=2), atol=1e-5)
    np.testing.assert_allclose(apart.mean(axis=1), pooled, atol=1e-5)
