import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.ops import attention as attention_module
from mgmae_jax.ops import splash_attention as splash_module
from mgmae_jax.ops.attention import attend_by_products, attention
from mgmae_jax.ops.splash_attention import block_size, splash_attention


def draw(tokens: int, dtype: str, heads: int = 1) -> jax.Array:
    return jax.random.normal(jax.random.key(0), (3, 2, tokens, heads, 64)).astype(dtype)


def total(attend, arrays):
    return jnp.square(attend(*arrays).astype(jnp.float32)).sum()


def test_any_number_of_tokens_has_the_plain_form_s_values_and_gradients():
    arrays = draw(152, "float32")  # visible tokens of 16 frames of 224 pixels: not a multiple of 128
    ours = jax.jit(jax.value_and_grad(lambda arrays: total(lambda *a: splash_attention(*a, interpret=True), arrays)))
    plain = jax.jit(jax.value_and_grad(lambda arrays: total(attend_by_products, arrays)))
    for one, two in zip(ours(arrays), plain(arrays), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5 * float(np.abs(two).max()))


@pytest.mark.parametrize(("tokens", "dtype", "close"), [(1568, "float32", 1e-5), (300, "bfloat16", 1e-2)])
def test_the_values_are_those_of_the_plain_form(tokens: int, dtype: str, close: float):
    arrays = draw(tokens, dtype)[:, :1]
    ours = splash_attention(*arrays, interpret=True)
    assert ours.dtype == dtype
    plain = attend_by_products(*arrays.astype(jnp.float32))
    np.testing.assert_allclose(ours.astype(jnp.float32), plain, atol=close)


def test_blocks_waste_little():
    assert [block_size(tokens) for tokens in (152, 160, 1568, 128, 4096)] == [256, 256, 896, 128, 1024]


def test_it_is_what_a_tpu_gets_without_being_asked(monkeypatch):
    monkeypatch.setattr(attention_module, "traced_platform", lambda: "tpu")
    monkeypatch.setattr(splash_module, "splash_attention", lambda query, key, value: query + 1)
    arrays = draw(8, "bfloat16")
    np.testing.assert_array_equal(attention(*arrays), arrays[0] + jnp.bfloat16(1))
    np.testing.assert_allclose(
        attention(*arrays, "xla").astype(jnp.float32), attend_by_products(*arrays).astype(jnp.float32), atol=1e-2
    )
