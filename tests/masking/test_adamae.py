"""AdaMAE's sampling network: what it draws, what its loss is, and that training moves its choice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mgmae_jax.masking.adamae import SamplingNetwork, adamae, adamae_loss, init_adamae, log_probabilities
from mgmae_jax.masking.mask_input import MaskInput, MaskOptions
from mgmae_jax.masking.select import split_tokens
from mgmae_jax.masking.strategies import draw_mask
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.train.optim import adamw_direction, decayed

GRID = TokenGrid(4, 16, 16, tubelet=2, patch=4)
WIDTH = 8
OPTIONS = MaskOptions(strategy="adamae", ratio=0.75, loss_weight=1.0)
TOKENS = jax.random.normal(jax.random.key(7), (GRID.tokens, WIDTH))


@pytest.fixture(scope="module")
def params():
    return jax.jit(lambda key: init_adamae(key, GRID, OPTIONS, WIDTH))(jax.random.key(1))


def ask_of(params, key=None, tokens=TOKENS, options=OPTIONS) -> MaskInput:
    return MaskInput(jax.random.key(0) if key is None else key, GRID, options, params=params, tokens=tokens)


def test_its_parameters_are_a_block_positions_and_a_head_and_only_matrices_decay(params):
    shapes = {"/".join(k.key for k in path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    assert shapes == {
        "positions": (32, 8),
        "norm1/scale": (8,), "norm1/bias": (8,), "qkv/kernel": (8, 24), "proj/kernel": (8, 8), "proj/bias": (8,),
        "norm2/scale": (8,), "norm2/bias": (8,), "fc1/kernel": (8, 32), "fc1/bias": (32,),
        "fc2/kernel": (32, 8), "fc2/bias": (8,), "head/kernel": (8, 1), "head/bias": (1,),
    }  # fmt: skip
    decays = {"/".join(k.key for k in path) for path, on in jax.tree_util.tree_leaves_with_path(decayed(params)) if on}
    assert decays == {"positions", *(name for name in shapes if name.endswith("kernel"))}


def test_tokens_change_places_together_with_their_positions(params):
    # Attention, and no other order than that of the positions.
    scores = jax.jit(lambda params, tokens: SamplingNetwork().apply({"params": params}, tokens))
    params = params | {"positions": jax.random.normal(jax.random.key(2), (32, 8))}
    turned = params | {"positions": params["positions"][::-1]}
    np.testing.assert_allclose(scores(turned, TOKENS[::-1]), scores(params, TOKENS)[::-1], atol=1e-5)
    assert np.abs(scores(params, TOKENS[::-1]) - scores(params, TOKENS)[::-1]).max() > 1e-2


def test_tokens_are_drawn_by_their_probability(params):
    params = params | {"head": {"kernel": params["head"]["kernel"] * 3, "bias": params["head"]["bias"]}}
    first = jax.jit(jax.vmap(lambda key: adamae(ask_of(params, key))[0]))(jax.random.split(jax.random.key(3), 4000))
    probability = np.exp(jax.jit(lambda: log_probabilities(ask_of(params)))())
    assert probability.max() > 4 * probability.min()
    # 4000 draws: standard deviation of a share at most 0.008.
    np.testing.assert_allclose(np.bincount(np.asarray(first), minlength=32) / 4000, probability, atol=0.03)


def test_the_loss_is_minus_the_mean_of_log_probability_times_error(params):
    ask = ask_of(params, options=MaskOptions(strategy="adamae", ratio=0.75))
    split = split_tokens(jnp.arange(8, dtype=jnp.int32), GRID)
    errors = jnp.linspace(0.5, 2.0, 24)
    loss, logarithms = jax.jit(lambda: (adamae_loss(ask, split, errors), log_probabilities(ask)))()
    expected = -np.mean(np.asarray(logarithms)[8:] * np.asarray(errors))
    np.testing.assert_allclose(loss, 1e-4 * expected, rtol=1e-5)


def test_the_gradient_is_that_of_finite_differences(params):
    split = split_tokens(jnp.arange(8, dtype=jnp.int32), GRID)
    errors = jax.random.uniform(jax.random.key(4), (24,))
    loss = jax.jit(lambda params: adamae_loss(ask_of(params), split, errors))
    check_grads(loss, (params,), order=1, modes=["rev"], atol=1e-2, rtol=1e-2, eps=1e-2)
    grads = jax.jit(jax.grad(loss))(params)
    assert all(np.abs(leaf).max() > 0 for name, leaf in grads.items() if name == "positions")
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves({k: grads[k] for k in ("qkv", "proj", "fc1", "fc2")}))


def test_the_draw_has_no_gradient(params):
    def shown(params):
        return TOKENS[adamae(ask_of(params))].sum()

    assert all((leaf == 0).all() for leaf in jax.tree.leaves(jax.jit(jax.grad(shown))(params)))


def test_training_moves_the_choice_to_where_the_errors_are(params):
    # Errors are large in the region of the last quarter of the frame's places, in both tubelets.
    hard = jnp.tile(jnp.arange(16) >= 12, 2)
    optimiser = adamw_direction(b1=0.9, b2=0.95, weight_decay=0.05)

    def loss(params, key):
        ask = ask_of(params, key, TOKENS + 0.1 * jax.random.normal(key, TOKENS.shape))
        split = draw_mask(ask)
        return adamae_loss(ask, split, jnp.where(hard, 1.0, 0.1)[split.target])

    def step(carry, key):
        params, state = carry
        keys = jax.random.split(key, 4)
        grads = jax.grad(lambda params: jax.vmap(lambda key: loss(params, key))(keys).mean())(params)
        direction, state = optimiser.update(grads, state, params)
        return (jax.tree.map(lambda leaf, change: leaf - 1e-2 * change, params, direction), state), None

    @jax.jit
    def trained(params):
        keys = jax.random.split(jax.random.key(5), 60)
        return jax.lax.scan(step, (params, optimiser.init(params)), keys)[0][0]

    @jax.jit
    def shares(params):
        """The probability of the hard region, and the share of the visible tokens that lies in it."""
        probability = jnp.exp(log_probabilities(ask_of(params)))
        draws = jax.vmap(lambda key: draw_mask(ask_of(params, key)).visible)(jax.random.split(jax.random.key(6), 200))
        return jnp.where(hard, probability, 0.0).sum(), hard[draws].mean(dtype=jnp.float32)

    with jax.numpy_dtype_promotion("standard"):  # for Adam's counter
        learned = trained(params)
    before, after = shares(params), shares(learned)
    assert float(after[0]) > float(before[0]) + 0.2
    assert float(after[1]) > float(before[1]) + 0.15


def test_without_parameters_it_says_so():
    with pytest.raises(ValueError, match=r"needs tokens .* and parameters"):
        draw_mask(ask_of(None))
