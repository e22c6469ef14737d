import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.errors import ConfigError
from mgmae_jax.train.optim import (
    adamw_direction,
    cosine_schedule,
    decayed,
    layer_scales,
    loss_and_grad,
    muon_direction,
    scaled_rate,
)
from tests.official_params import official_params

GOLDEN = Path(__file__).parents[1] / "golden"
FACTS = json.loads((GOLDEN / "recipe_facts.json").read_text())


@pytest.mark.parametrize("facts", FACTS["cosine_schedule"], ids=lambda facts: f"{facts['epochs']} epochs")
def test_schedule_is_the_official_one(facts: dict):
    steps, warmup = (facts[name] * facts["steps_per_epoch"] for name in ("epochs", "warmup_epochs"))
    rate = jax.jit(cosine_schedule(facts["base"], facts["final"], steps=steps, warmup_steps=warmup))
    for step, want in facts["values"].items():
        # Near the end the cosine is a difference of nearly equal float32 numbers.
        np.testing.assert_allclose(rate(jnp.int32(int(step))), want, rtol=1e-6, atol=1e-7 * facts["base"])


def test_without_warm_up_the_schedule_starts_at_the_peak():
    rate = cosine_schedule(0.5, 0.1, steps=10, warmup_steps=0)
    np.testing.assert_allclose([rate(jnp.int32(0)), rate(jnp.int32(5))], [0.5, 0.3], rtol=1e-6)


@pytest.mark.parametrize("warmup", [10, 11, -1])
def test_a_warm_up_as_long_as_the_run_is_an_error(warmup: int):
    with pytest.raises(ConfigError, match=r"config\.optim\.warmup_epochs"):
        cosine_schedule(1.0, 0.0, steps=10, warmup_steps=warmup)


def test_the_rate_is_given_for_a_batch_of_256():
    assert scaled_rate(1e-3, 384) == pytest.approx(1.5e-3)


@pytest.fixture(scope="module")
def official() -> dict[str, jax.Array]:
    """A parameter tree for each of the classifier's tensors that the facts tell of, with that one tensor in it."""
    shapes = {"patch_embed.proj.weight": (2, 3, 2, 16, 16), "head.weight": (2, 2)}
    tensors = {}
    for name in FACTS["layer_decay"]["scale"]:
        matrix = name.endswith(("qkv.weight", "fc1.weight", "fc2.weight"))
        tensors[name] = np.zeros(shapes.get(name, (2, 2) if matrix else (2,)), np.float32)
    return {name: official_params({name: tensor}) for name, tensor in tensors.items()}


def test_the_official_parameters_decay(official):
    want = {name: [decay > 0] for name, decay in FACTS["layer_decay"]["weight_decay"].items()}
    assert len(want) == 20
    assert {name: jax.tree.leaves(decayed(tree)) for name, tree in official.items()} == want


def test_the_layers_have_the_official_rates(official):
    facts = FACTS["layer_decay"]
    for name, tree in official.items():
        (scale,) = jax.tree.leaves(layer_scales(tree, facts["layers"], facts["decay"]))
        assert scale == pytest.approx(facts["scale"][name], rel=1e-12), name


def test_scales_multiply_the_rate_and_the_weight_decay():
    params = {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.zeros(2)}
    options = {"b1": 0.9, "b2": 0.999, "weight_decay": 0.05}
    optimiser = adamw_direction(**options, scales=lambda params: {"kernel": 0.5, "bias": 0.25})
    grads = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    direction, _ = optimiser.update(grads, optimiser.init(params), params)
    np.testing.assert_allclose(direction["kernel"], 0.5 * (1 + 0.15), rtol=1e-4)
    np.testing.assert_allclose(direction["bias"], 0.25, rtol=1e-4)


def test_a_parameter_without_gradient_moves_by_its_decay_alone():
    params = {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full(2, 3.0)}
    optimiser = adamw_direction(b1=0.9, b2=0.95, weight_decay=0.05)
    direction, _ = optimiser.update(jax.tree.map(jnp.zeros_like, params), optimiser.init(params), params)
    np.testing.assert_allclose(direction["kernel"], 0.15, rtol=1e-6)
    np.testing.assert_array_equal(direction["bias"], 0)


def test_the_first_step_is_one_in_the_direction_of_the_gradient_whatever_its_size():
    params = {"bias": jnp.zeros(2)}
    optimiser = adamw_direction(b1=0.9, b2=0.95, weight_decay=0.05)
    direction, _ = optimiser.update({"bias": jnp.array([1e-3, -50.0])}, optimiser.init(params), params)
    np.testing.assert_allclose(direction["bias"], [1, -1], rtol=1e-4)


def test_muon_makes_steps_of_one_size_for_every_kernel_and_adams_for_biases():
    rng = np.random.default_rng(0)
    params = {
        "conv": jnp.asarray(rng.normal(size=(3, 3, 8, 16)), jnp.float32),
        "dense": jnp.asarray(rng.normal(size=(24, 6)), jnp.float32),
        "bias": jnp.zeros(5),
    }
    grads = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32) * 1e-3, params)
    optimiser = muon_direction(b1=0.9, b2=0.999, weight_decay=0.0)
    direction, _ = jax.jit(optimiser.update)(grads, optimiser.init(params), params)
    for name in ("conv", "dense"):
        matrix = np.asarray(direction[name]).reshape(-1, direction[name].shape[-1])
        assert np.sqrt(np.square(matrix).mean()) == pytest.approx(0.2, rel=0.3)
        values = np.linalg.svd(matrix, compute_uv=False)
        assert values.max() / values.min() < 2  # orthogonal, as far as five Newton-Schulz steps go
    # One plus the look ahead of Nesterov's momentum, whatever the size of the gradient.
    np.testing.assert_allclose(np.abs(direction["bias"]), 1.4736, rtol=1e-3)
    for name, grad in grads.items():
        assert (np.asarray(grad) * np.asarray(direction[name])).sum() > 0  # it is what the caller subtracts


def test_parts_with_weights_make_the_mean_over_all_values():
    values = jnp.asarray([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    kept = jnp.asarray([True, False, True, True, True, False])

    def loss(scale: jax.Array, examples: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        part, counted = examples
        return (scale * part).mean(where=counted), counted.sum(dtype=jnp.float32)

    for parts in (1, 2, 3):
        mean, grad = loss_and_grad(loss, jnp.float32(2.0), (values, kept), parts, weighted=True)
        assert float(mean) == pytest.approx(2 * 13 / 4)
        assert float(grad) == pytest.approx(13 / 4)
