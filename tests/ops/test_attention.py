import jax
import jax.numpy as jnp
import numpy as np

from mgmae_jax.ops.attention import attention


def test_attention_is_the_softmax_of_scaled_products():
    query, key, value = jax.random.normal(jax.random.key(0), (3, 2, 5, 3, 4))
    scores = np.einsum("bnhd,bmhd->bhnm", query, key) / 2
    weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(attention(query, key, value), np.einsum("bhnm,bmhd->bnhd", weights, value), atol=1e-5)


def test_half_precision_stays_half_and_close():
    arrays = jax.random.normal(jax.random.key(0), (3, 1, 6, 2, 8))
    with jax.numpy_dtype_promotion("standard"):  # JAX's own implementation promotes inside.
        half = attention(*arrays.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), attention(*arrays), atol=0.05)
