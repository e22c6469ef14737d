import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.flow.metrics import flow_scores


def test_scores_of_known_errors():
    truth = jnp.zeros((2, 3, 2))
    flow = jnp.array([[[3.0, 4.0], [0.0, 0.0], [0.0, 2.0]], [[0.5, 0.0], [0.0, 0.0], [6.0, 8.0]]])
    scores = flow_scores(flow, truth)
    assert float(scores["epe"]) == pytest.approx((5 + 2 + 0.5 + 10) / 6)
    assert [float(scores[f"over_{pixels}px"]) for pixels in (1, 3, 5)] == pytest.approx([3 / 6, 2 / 6, 1 / 6])


def test_unknown_pixels_do_not_count_whatever_they_hold():
    truth = jnp.array([[[1.0, 1.0], [np.nan, np.inf]]])
    scores = flow_scores(jnp.zeros((1, 2, 2)), truth, jnp.array([[True, False]]))
    assert float(scores["epe"]) == pytest.approx(2**0.5)
    assert float(scores["over_1px"]) == 1
