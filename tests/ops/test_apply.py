import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mgmae_jax.ops.apply import apply_module


class Small(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(2)(x)

    def scaled(self, x: jax.Array, *, by: float) -> jax.Array:
        return self(x) * by


def test_a_module_is_applied_to_its_parameters():
    x = jnp.ones((1, 3))
    variables = Small().init(jax.random.key(0), x)
    np.testing.assert_array_equal(apply_module(Small(), variables["params"], x), Small().apply(variables, x))


def test_a_method_is_called_by_its_name():
    x = jnp.ones((1, 3))
    params = Small().init(jax.random.key(0), x)["params"]
    found = apply_module(Small(), params, x, method="scaled", by=2.0)
    np.testing.assert_array_equal(found, 2 * apply_module(Small(), params, x))
