import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmae_jax.ablate.statistics import mean_of, paired, sign_flip_p

FLOATS = st.floats(-1e3, 1e3, allow_nan=False, width=32)


def test_a_mean_has_the_standard_error_of_its_seeds():
    assert mean_of([1.0, 2.0, 3.0, 4.0]) == pytest.approx((2.5, math.sqrt(5 / 3) / 2, 4))
    assert mean_of([7.0]) == (7.0, None, 1)


def test_pairs_are_made_by_seed_over_those_that_both_have():
    difference = paired({12: 5.0, 13: 7.0, 14: 9.0, 15: 1.0}, {14: 6.0, 12: 4.0, 13: 5.0, 16: 0.0})
    assert difference.mean == pytest.approx((2.0, 1 / math.sqrt(3), 3))
    assert difference.t == pytest.approx(2 * math.sqrt(3))  # a mean of 2 with a standard deviation of 1
    assert difference.p == 0.25  # all of one sign: 2 of 8
    assert paired({12: 1.0}, {13: 1.0}) is None
    assert paired({12: 1.0}, {12: 3.0}) == ((-2.0, None, 1), None, None)


def test_rows_that_are_equal_do_not_differ_and_a_constant_difference_is_certain():
    values = {seed: float(seed) for seed in range(5)}
    assert paired(values, values)[1:] == (0.0, 1.0)
    above = paired({seed: value + 1 for seed, value in values.items()}, values)
    assert above.t == math.inf
    assert above.p == 2 / 2**5


def test_a_difference_that_is_no_number_is_not_certain():
    found = paired({1: math.nan, 2: 0.5, 3: 0.5}, {1: 0.25, 2: 0.25, 3: 0.25})
    assert (found.t, found.p) == (None, None)


def test_student_s_pairs():
    # The ten patients of Student (1908), hours of sleep gained by two drugs: t is 4.06.
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    difference = paired(dict(enumerate(second)), dict(enumerate(first)))
    assert difference.mean.value == pytest.approx(1.58)
    assert difference.t == pytest.approx(4.0621, abs=1e-4)
    assert difference.p == 4 / 2**10  # one is 0: both of its signs are as far


@given(st.lists(FLOATS, min_size=1, max_size=8))
def test_p_is_the_share_of_signs_that_are_as_far_from_zero(differences: list[float]):
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(differences))))
    sums = np.abs(signs @ np.asarray(differences))
    expected = np.mean(sums >= sums[0] - 1e-9 * max(sums.max(), 1e-300))
    p = sign_flip_p(differences)
    assert p == expected
    assert 2 / 2 ** len(differences) <= p <= 1
    assert sign_flip_p([-value for value in differences]) == p


def test_twenty_seeds_are_exact_as_well():
    assert sign_flip_p([1.0] * 20) == 2 / 2**20
