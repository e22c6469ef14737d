import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.errors import ConfigError
from mgmae_jax.models.classifier import Classifier
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.runtime.mesh import make_mesh, put_batch, tree_shardings
from mgmae_jax.train.finetune import Examples, Finetuning
from mgmae_jax.train.mixing import MixOptions
from mgmae_jax.train.optim import adamw_direction, cosine_schedule, layer_scales
from tests.train.tiny import VARIANT

KEY = jax.random.key(0)
MODEL = Classifier(VARIANT, TokenGrid(4, 32, 32, patch=8), 5, drop_path=0.3, head_dropout=0.2, init_scale=1.0)
PLAIN = MixOptions(mixup=0, cutmix=0, smoothing=0)


def finetuning(*, mix: MixOptions = MixOptions(), accumulate: int = 1, ema: float = 0.0, model=MODEL) -> Finetuning:  # noqa: B008
    scales = functools.partial(layer_scales, depth=VARIANT.depth, decay=0.75)
    optimiser = adamw_direction(b1=0.9, b2=0.999, weight_decay=0.05, scales=scales)
    return Finetuning(model, mix, optimiser, cosine_schedule(1e-3, 1e-3, steps=9, warmup_steps=0), accumulate, ema)


def batch_of(step: int, clips: int = 8) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    return {
        "clip": rng.integers(0, 256, (clips, 4, 32, 32, 3), np.uint8),
        "label": rng.integers(0, 5, clips).astype(np.int32),
    }


@functools.cache
def host_state(ema: float = 0.0):
    return jax.device_get(jax.jit(finetuning(ema=ema).init)(KEY))


def run_steps(accumulate: int, devices: int, steps: int = 2):
    mesh = make_mesh(devices=jax.devices()[:devices])
    step = jax.jit(finetuning(accumulate=accumulate).step, donate_argnums=0)
    state = jax.tree.map(np.copy, host_state())
    state, losses = jax.device_put(state, tree_shardings(mesh, state)), []
    for number in range(steps):
        state, metrics = step(state, {}, put_batch(batch_of(number), mesh), KEY)
        losses.append(float(metrics["loss"]))
    return losses, jax.device_get(state.params)


whole_batch = functools.cache(functools.partial(run_steps, 1, 1))


@pytest.mark.slow
@pytest.mark.parametrize(("accumulate", "devices"), [(2, 1), (4, 2), (1, 8)])
def test_parts_and_devices_change_nothing(accumulate: int, devices: int):
    """Mixed, with dropped branches and features: what is drawn depends on the place in the global batch alone."""
    losses, params = run_steps(accumulate, devices)
    want_losses, want_params = whole_batch()
    np.testing.assert_allclose(losses, want_losses, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5), params, want_params)


def test_the_batch_must_divide_into_the_parts():
    tuned = finetuning(accumulate=3)
    with pytest.raises(ConfigError, match=r"config\.train\.accumulate=3: give a divisor of the 8 clips"):
        jax.eval_shape(tuned.step, host_state(), {}, batch_of(0), KEY)


@pytest.mark.parametrize("mix", [MixOptions(), PLAIN])
def test_the_loss_and_its_gradient_promote_no_type(mix: MixOptions):
    tuned = finetuning(mix=mix)
    params = jax.eval_shape(tuned.init, KEY).params
    batch, keys = batch_of(0), jax.random.split(KEY, 8)
    examples = Examples(batch["clip"], batch["label"], batch["clip"], batch["label"], keys, keys)
    with jax.numpy_dtype_promotion("strict"):
        loss, grads = jax.eval_shape(
            jax.value_and_grad(lambda params, examples: tuned.loss(params, examples, None)), params, examples
        )
    assert {leaf.dtype for leaf in jax.tree.leaves((loss, grads))} == {np.dtype("float32")}


def test_unmixed_the_loss_is_the_cross_entropy_of_the_labels():
    tuned = finetuning(mix=PLAIN, model=MODEL.clone(drop_path=0.0, head_dropout=0.0))
    batch = {name: jnp.asarray(array) for name, array in batch_of(0).items()}
    logits = tuned.model.apply({"params": host_state().params}, batch["clip"])
    want = -np.mean(jax.nn.log_softmax(logits)[np.arange(8), batch["label"]])
    _, metrics = jax.jit(tuned.step)(host_state(), {}, batch, KEY)
    np.testing.assert_allclose(metrics["loss"], want, rtol=1e-5)


def test_mixing_changes_with_the_step_and_the_key():
    step = jax.jit(finetuning(model=MODEL.clone(drop_path=0.0, head_dropout=0.0)).step)
    later = host_state().replace(step=np.int32(1))
    runs = [(host_state(), KEY), (later, KEY), (host_state(), jax.random.key(1))]
    losses = {float(step(state, {}, batch_of(0), key)[1]["loss"]) for state, key in runs}
    assert len(losses) == 3


def test_a_pretrained_encoder_takes_the_place_of_a_drawn_one():
    encoder = jax.tree.map(lambda leaf: leaf + 1, host_state().params["encoder"])
    state = jax.jit(finetuning(ema=0.9).init)(KEY, {"encoder": encoder})
    for params in (state.params, state.ema):
        jax.tree.map(np.testing.assert_array_equal, params["encoder"], encoder)
        np.testing.assert_array_equal(params["head"]["kernel"], host_state().params["head"]["kernel"])


def test_the_average_follows_the_parameters():
    state, _ = jax.jit(finetuning(ema=0.9).step)(host_state(0.9), {}, batch_of(0), KEY)
    # At step 0 the decay is (1 + 0) / (10 + 0).
    want = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * new, host_state(0.9).params, state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), state.ema, want)
