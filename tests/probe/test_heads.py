import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmae_jax.models.probes import AttentiveProbe, LinearProbe
from mgmae_jax.probe import heads
from mgmae_jax.probe.heads import Probing, Scaling, best_classes, feature_batches, neighbour_shares, unit_length
from mgmae_jax.runtime.mesh import make_mesh, put_replicated
from mgmae_jax.runtime.share import Share
from mgmae_jax.train.optim import adamw_direction, cosine_schedule

WHOLE = Share()


def take(count, *, seed=0, first=0, batch_size=8, share=WHOLE, videos=5, views=2):
    """Numbers of the examples of `count` batches: video * 10 + view."""
    features = np.arange(videos)[:, None, None] * 10.0 + np.arange(views)[:, None]
    labels = np.arange(videos) + 100
    batches = feature_batches(features, labels, batch_size=batch_size, seed=seed, share=share)
    with batches(first) as found:
        taken = list(itertools.islice(found, count))
    for batch in taken:
        np.testing.assert_array_equal(batch["label"], 100 + batch["features"][:, 0] // 10)
        assert batch["label"].dtype == np.int32
    return [batch["features"][:, 0].tolist() for batch in taken]


@given(seed=st.integers(0, 9), batch_size=st.integers(1, 25))
def test_every_epoch_holds_every_view_once(seed, batch_size):
    numbers = list(itertools.chain(*take(-(-30 // batch_size), seed=seed, batch_size=batch_size)))
    every = sorted(video * 10 + view for video in range(5) for view in range(2))
    epochs = [numbers[i : i + 10] for i in (0, 10, 20)]
    assert [sorted(epoch) for epoch in epochs] == [every] * 3
    assert epochs[0] != epochs[1]


def test_batches_are_a_function_of_seed_and_step():
    whole = take(6)
    assert take(2, first=4) == whole[4:]
    assert take(6, seed=1) != whole
    halves = [take(6, share=Share((process,), 2)) for process in range(2)]
    assert [first + second for first, second in zip(*halves, strict=True)] == whole


def test_features_are_scaled_in_blocks(monkeypatch):
    features = np.random.default_rng(0).normal(3, 2, (23, 2, 5)).astype(np.float32)
    rows = features.astype(np.float64).reshape(-1, 5)
    monkeypatch.setattr(heads, "_BLOCK", 7)
    found = Scaling.of(features)
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.scale, 1 / rows.std(axis=0), rtol=1e-6)


def test_scaling_makes_channels_alike():
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(40, 2, 3)) * [1e-3, 1, 100] + [5, 0, -7]).astype(np.float32)
    scaled = np.asarray(Scaling.of(features)(jnp.asarray(features))).reshape(-1, 3)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-2)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-3)


def test_tokens_and_channels_that_never_change_stay_as_they_are():
    tokens = np.random.default_rng(0).normal(size=(3, 1, 4, 2)).astype(np.float16)
    np.testing.assert_array_equal(Scaling.of(tokens)(jnp.asarray(tokens)), tokens.astype(np.float32))
    assert np.isfinite(np.asarray(Scaling.of(np.ones((3, 1, 2), np.float32))(jnp.ones((3, 2))))).all()


def separable(videos=48, width=6):
    """Features in which the class is the sign of two channels, drowned in a large common offset."""
    rng = np.random.default_rng(0)
    labels = np.arange(videos) % 4
    features = rng.normal(scale=0.3, size=(videos, 2, width))
    features[..., 0] += 1 - 2 * (labels % 2)[:, None]
    features[..., 1] += 1 - 2 * (labels // 2)[:, None]
    return (features + 3).astype(np.float32), labels


@pytest.mark.parametrize("kind", ["linear", "attentive"])
def test_a_probe_learns_what_can_be_told(kind):
    features, labels = separable()
    if kind == "attentive":  # the clip's class stands in one of four tokens, the others are noise
        noise = np.random.default_rng(1).normal(size=(*features.shape[:2], 3, 6))
        features = np.concatenate([noise, features[:, :, None] - 3], axis=2).astype(np.float32)
    model = LinearProbe(4) if kind == "linear" else AttentiveProbe(4, heads=2)
    schedule = cosine_schedule(2e-2, 0.0, steps=150, warmup_steps=5)
    probing = Probing(model, adamw_direction(b1=0.9, b2=0.999, weight_decay=0.0), schedule)
    scaling, state = Scaling.of(features), probing.init(jax.random.key(0), features.shape[2:])
    step = jax.jit(probing.step)
    batches = feature_batches(features, labels, batch_size=32, seed=0, share=Share())
    with batches(0) as found:
        losses = []
        for batch in itertools.islice(found, 150):
            state, metrics = step(state, scaling, batch, jax.random.key(0))
            losses.append(float(metrics["loss"]))
    assert losses[0] == pytest.approx(np.log(4), abs=0.3)
    assert np.mean(losses[-5:]) < 0.6


def test_neighbours_by_hand():
    bank = jnp.asarray(unit_length(np.array([[[1.0, 0]], [[0.8, 0.6]], [[0, 1.0]], [[-1.0, 0]]])))
    query = jnp.asarray([[1.0, 0.0]])
    options = {"classes": 3, "neighbours": 3, "temperature": 0.5}
    shares = neighbour_shares(bank, jnp.asarray([0, 1, 1, 2]), query, **options)
    weights = np.exp(np.array([1.0, 0.8, 0.0]) / 0.5)
    np.testing.assert_allclose(shares[0], [weights[0], weights[1:].sum(), 0] / weights.sum(), rtol=1e-5)


def test_fewer_videos_than_neighbours_all_vote():
    shares = neighbour_shares(
        jnp.eye(2), jnp.asarray([0, 1]), jnp.asarray([[1.0, 0.0]]), classes=2, neighbours=20, temperature=0.07
    )
    np.testing.assert_allclose(shares.sum(), 1, rtol=1e-6)


def test_unit_length_takes_the_mean_of_the_views():
    found = unit_length(np.array([[[3.0, 0], [3, 8]], [[0, 0], [0, 0]]]))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]])


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("per_device", [1, 3])
def test_best_classes_of_any_number_of_rows_on_any_devices(devices, per_device):
    rows = np.random.default_rng(0).random((29, 7)).astype(np.float32)
    mesh = make_mesh(devices=jax.devices()[:devices])
    known = put_replicated(np.float32(2), mesh)
    best, shares = best_classes(lambda known, rows: known * rows, known, rows, mesh, per_device)
    expected = np.argsort(-rows, axis=1)[:, :5]
    np.testing.assert_array_equal(best, expected)
    np.testing.assert_array_equal(shares, 2 * np.take_along_axis(rows, expected, axis=1))
