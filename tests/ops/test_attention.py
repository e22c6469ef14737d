import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.errors import ConfigError
from mgmae_jax.ops import attention as module
from mgmae_jax.ops.attention import attend_by_products, attention, cudnn_takes


def test_attention_is_the_softmax_of_scaled_products():
    query, key, value = jax.random.normal(jax.random.key(0), (3, 2, 5, 3, 4))
    scores = np.einsum("bnhd,bmhd->bhnm", query, key) / 2
    weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(attention(query, key, value), np.einsum("bhnm,bmhd->bnhd", weights, value), atol=1e-5)


def test_half_precision_stays_half_and_close():
    arrays = jax.random.normal(jax.random.key(0), (3, 1, 6, 2, 8))
    half = attention(*arrays.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), attention(*arrays), atol=0.05)


def test_the_product_form_has_jax_s_values_and_gradients():
    arrays = jax.random.normal(jax.random.key(1), (3, 2, 7, 3, 8)) * 3

    def loss(attend, arrays):
        return jnp.square(attend(*arrays)).sum()

    for ours, reference in zip(
        jax.value_and_grad(lambda a: loss(attend_by_products, a))(arrays),
        jax.value_and_grad(lambda a: loss(jax.nn.dot_product_attention, a))(arrays),
        strict=True,
    ):
        np.testing.assert_allclose(ours, reference, atol=1e-5 * float(np.abs(reference).max()))


def test_large_logits_do_not_overflow():
    arrays = jax.random.normal(jax.random.key(2), (3, 1, 4, 1, 8)) * 100
    assert np.isfinite(attend_by_products(*arrays)).all()


@pytest.mark.parametrize(
    ("dtype", "head", "platform", "capability", "takes"),
    [
        ("bfloat16", 64, "gpu", 9.0, True),
        ("float16", 80, "gpu", 8.0, True),
        ("float32", 64, "gpu", 9.0, False),
        ("bfloat16", 12, "gpu", 9.0, False),
        ("bfloat16", 136, "gpu", 9.0, False),
        ("bfloat16", 64, "gpu", 7.5, False),
        ("bfloat16", 64, "cpu", 9.0, False),
    ],
)
def test_cudnn_is_taken_where_it_works(monkeypatch, dtype, head, platform, capability, takes):
    monkeypatch.setattr(module, "traced_platform", lambda: platform)
    monkeypatch.setattr(module, "_compute_capability", lambda: capability)
    assert cudnn_takes(jnp.zeros((1, 8, 2, head), dtype)) is takes


@pytest.mark.parametrize(
    ("dtype", "platform", "told"),
    [
        ("bfloat16", "cpu", "on a cpu"),
        ("bfloat16", "tpu", "on a tpu"),
        ("float32", "gpu", "in float32"),
    ],
)
def test_where_cudnn_cannot_run_it_is_named(monkeypatch, dtype, platform, told):
    monkeypatch.setattr(module, "traced_platform", lambda: platform)
    arrays = jnp.zeros((3, 1, 8, 2, 64), dtype)
    want = rf"config\.model\.attention='cudnn': give auto or xla {told}; cuDNN's needs an NVIDIA GPU"
    with pytest.raises(ConfigError, match=want):
        jax.eval_shape(lambda arrays: attention(*arrays, implementation="cudnn"), arrays)


def test_here_it_is_not():
    assert not cudnn_takes(jnp.zeros((1, 8, 2, 64), jnp.bfloat16))
    assert module._compute_capability() == 0
