"""Means over seeds, and differences between rows that are paired by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Mean(NamedTuple):
    """A mean over seeds; `error` is its standard error, None for a single seed."""

    value: float
    error: float | None
    seeds: int


class Difference(NamedTuple):
    """The differences between two rows, seed by seed.

    Attributes:
      mean: their mean and its standard error.
      t: the paired t statistic, the mean by its standard error; None for a single pair or if a difference is not
        finite, infinite if all are equal.
      p: two-sided p-value of "the rows do not differ", see `sign_flip_p`; None where t is.
    """

    mean: Mean
    t: float | None
    p: float | None


def mean_of(values: Sequence[float]) -> Mean:
    """The mean of one or more values, and its standard error (with n - 1)."""
    array = np.asarray(values, np.float64)
    error = float(array.std(ddof=1) / math.sqrt(len(array))) if len(array) > 1 else None
    return Mean(float(array.mean()), error, len(array))


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Difference | None:
    """How much a row is above another.

    Args:
      first: the values of a row by seed.
      second: those of the row to compare with.

    Returns:
      Statistics of first - second over the seeds that both have; None if there are none.
    """
    differences = [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]
    if not differences:
        return None
    mean = mean_of(differences)
    if mean.error is None or not math.isfinite(mean.value):
        return Difference(mean, None, None)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = float(np.float64(mean.value) / mean.error)
    return Difference(mean, 0.0 if math.isnan(t) else t, sign_flip_p(differences))


def sign_flip_p(differences: Sequence[float]) -> float:
    """The exact two-sided p-value of Fisher's randomisation test for pairs.

    If two rows did not differ, each difference could as well have had the other sign: p is the share of all 2^n ways to
    give them signs whose mean is at least as far from zero. No distribution is assumed, unlike for the p-value of a t
    test; the least that n pairs can give is 2 / 2^n: 0.0625 for five seeds, 0.03 for six.

    Args:
      differences: n differences, up to 20 of them.
    """
    sums = np.zeros(1)
    for difference in np.asarray(differences, np.float64):
        sums = np.concatenate([sums + difference, sums - difference])
    observed = abs(sums[0])
    return float(np.mean(np.abs(sums) >= observed - 1e-9 * max(1e-300, np.abs(sums).max())))
