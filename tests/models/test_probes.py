import jax
import jax.numpy as jnp
import numpy as np

from mgmae_jax.models.classifier import Classifier, PretrainedEncoder
from mgmae_jax.models.mae import MaskedAutoencoder
from mgmae_jax.models.probes import AttentiveProbe, LinearProbe
from mgmae_jax.models.variants import Variant
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit

VARIANT, GRID = Variant(24, 2, 2, 48, 12, 2), TokenGrid(4, 16, 16, patch=8)


def clips(count=2):
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (count, 4, 16, 16, 3), np.uint8))


def test_the_pretrained_encoder_has_the_autoencoders_parameters():
    found = jax.eval_shape(PretrainedEncoder(VARIANT, GRID).init, jax.random.key(0), clips())["params"]

    def init():
        indices = jnp.zeros((1, 4), jnp.int32)
        model = MaskedAutoencoder(VARIANT, GRID, 1)
        return model.init(jax.random.key(0), jnp.zeros((1, 4, GRID.cube_values)), TokenSplit(indices, indices))

    expected = jax.eval_shape(init)["params"]["encoder"]
    assert jax.tree.map(lambda a: a.shape, found) == {"encoder": jax.tree.map(lambda a: a.shape, expected)}


def test_features_are_the_mean_of_the_tokens_of_each_clip_alone():
    model = PretrainedEncoder(VARIANT, GRID)
    variables = model.init(jax.random.key(0), clips())
    tokens = model.apply(variables, clips(), method="tokens")
    assert tokens.shape == (2, GRID.tokens, 24)
    np.testing.assert_allclose(model.apply(variables, clips()), tokens.mean(axis=1), atol=1e-6)
    alone = model.apply(variables, clips()[1:], method="tokens")
    np.testing.assert_allclose(alone[0], tokens[1], atol=1e-5)


def test_a_fine_tuned_models_encoder_differs_by_the_norm_alone():
    pretrained = PretrainedEncoder(VARIANT, GRID)
    params = pretrained.init(jax.random.key(0), clips())["params"]
    fine = Classifier(VARIANT, GRID, classes=3)
    encoder = jax.tree.map(lambda a: a, params["encoder"])
    norm = encoder["blocks"].pop("norm")
    bare = fine.apply({"params": {"encoder": encoder}}, clips(), method="tokens")
    mean, variance = bare.mean(axis=-1, keepdims=True), bare.var(axis=-1, keepdims=True)
    assert set(norm) == {"scale", "bias"}
    normalised = (bare - mean) / jnp.sqrt(variance + 1e-6)
    np.testing.assert_allclose(pretrained.apply({"params": params}, clips(), method="tokens"), normalised, atol=1e-4)


def test_the_attentive_probe_does_not_mind_the_order_of_tokens():
    tokens = jax.random.normal(jax.random.key(1), (3, 10, 24))
    model = AttentiveProbe(classes=5, heads=2)
    variables = model.init(jax.random.key(0), tokens)
    # Of any size, for the initial values hardly look at the tokens.
    variables = jax.tree.map(lambda a: a + 0.3 * jax.random.normal(jax.random.key(2), a.shape), variables)
    logits = model.apply(variables, tokens)
    assert logits.shape == (3, 5)
    np.testing.assert_allclose(model.apply(variables, tokens[:, ::-1]), logits, atol=1e-5)
    other = model.apply(variables, tokens.at[0, 3, :5].add(3.0))
    assert jnp.abs(other[0] - logits[0]).max() > 1e-2
    np.testing.assert_allclose(other[1:], logits[1:], atol=1e-5)


def test_the_linear_probe_is_linear():
    x, y = jax.random.normal(jax.random.key(1), (2, 1, 24))
    model = LinearProbe(classes=5)
    variables = model.init(jax.random.key(0), x)
    both = model.apply(variables, x + y) + model.apply(variables, jnp.zeros_like(x))
    np.testing.assert_allclose(model.apply(variables, x) + model.apply(variables, y), both, atol=1e-5)
