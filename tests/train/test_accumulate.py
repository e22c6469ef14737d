import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.errors import ConfigError
from mgmae_jax.train.optim import loss_and_grad

PARAMS = {"weight": jnp.array([1.0, -2.0])}
EXAMPLES = {"x": jnp.arange(12.0).reshape(6, 2), "keys": jax.random.split(jax.random.key(0), 6)}


def loss(params, examples):
    noise = jax.vmap(lambda key: jax.random.normal(key, (2,)))(examples["keys"])
    return jnp.square((examples["x"] + noise) @ params["weight"]).mean()


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_parts_give_the_loss_and_gradient_of_the_whole(parts: int):
    got, want = (loss_and_grad(loss, PARAMS, EXAMPLES, count) for count in (parts, 1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got, want)


def test_a_part_is_of_examples_that_lie_apart():
    """So that a batch split over devices is worked on by all of them in every part."""
    seen = []
    loss_and_grad(
        lambda params, part: jax.debug.callback(seen.append, part["x"][:, 0]) or loss(params, part), PARAMS, EXAMPLES, 2
    )
    jax.effects_barrier()
    assert sorted(map(tuple, np.array(seen))) == [(0, 4, 8), (2, 6, 10)]


def test_the_parts_must_divide_the_clips():
    with pytest.raises(ConfigError, match=r"config\.train\.accumulate=4: give a divisor of the 6 clips"):
        loss_and_grad(loss, PARAMS, EXAMPLES, 4)
