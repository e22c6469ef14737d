import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.models.classifier import PretrainedEncoder
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.probe.encoder import FrozenEncoder
from tests.train.tiny import VARIANT


def test_means_of_tubelets_come_in_the_order_of_time_and_average_to_the_mean_of_all():
    grid = TokenGrid(6, 32, 32, patch=8)
    model = PretrainedEncoder(VARIANT, grid)
    clips = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 6, 32, 32, 3), np.uint8))
    params = jax.jit(model.init)(jax.random.key(0), clips)["params"]
    encoder = FrozenEncoder(model, params, ClipSpec(6, 1, 32), {})
    tokens, tubelets, pooled = (
        np.asarray(jax.jit(encoder.function(what))(params, clips)) for what in ("tokens", "tubelets", "pooled")
    )
    assert tubelets.shape[1:] == encoder.shape("tubelets") == (3 * VARIANT.width,)
    apart = tubelets.reshape(2, 3, VARIANT.width)
    np.testing.assert_allclose(apart, tokens.reshape(2, 3, 16, -1).mean(axis=2), atol=1e-5)
    np.testing.assert_allclose(apart.mean(axis=1), pooled, atol=1e-5)


@pytest.mark.parametrize(
    ("height", "width", "bounds"),
    [
        (48, 48, ([0, 2, 4, 6], [0, 2, 4, 6])),
        (40, 32, ([0, 2, 4, 5], [0, 2, 3, 4])),
        (16, 64, ([0, 1, 2], [0, 3, 6, 8])),
    ],
)
def test_means_of_regions_are_by_tubelet_row_and_column(height, width, bounds):
    grid = TokenGrid(4, height, width, patch=8)
    model = PretrainedEncoder(VARIANT, grid)
    clips = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 4, height, width, 3), np.uint8))
    params = jax.jit(model.init)(jax.random.key(0), clips)["params"]
    encoder = FrozenEncoder(model, params, ClipSpec(4, 1, 32), {})
    tokens, regions = (np.asarray(jax.jit(encoder.function(what))(params, clips)) for what in ("tokens", "regions"))
    assert regions.shape[1:] == encoder.shape("regions")
    apart = tokens.reshape(2, grid.tubelets, grid.rows, grid.columns, -1)
    rows, columns = bounds
    expected = [
        apart[:, tubelet, top:bottom, left:right].mean(axis=(1, 2))
        for tubelet in range(grid.tubelets)
        for top, bottom in itertools.pairwise(rows)
        for left, right in itertools.pairwise(columns)
    ]
    np.testing.assert_allclose(regions, np.concatenate(expected, axis=1), atol=1e-5)
