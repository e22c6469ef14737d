"""Ways to compute optical flow, behind one signature, to be measured against each other."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from mgmae_jax.data.host_flow import host_flow
from mgmae_jax.errors import MgmaeError
from mgmae_jax.flow.clip_flow import pair_flow

Method = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(frames uint8 [T, H, W, 3], source int [P], target int [P]) -> flow float32 [P, H, W, 2], in pixels."""

CLASSICAL = ("tvl1", "tvl1_fast", "dis", "none")
"""Methods that need no weights: OpenCV's Dual TV-L1 with its own and with faster settings, OpenCV's DIS (its "medium"
preset), and no motion at all."""


def raft_method(params: Mapping[str, Any], iters: int, **options: Any) -> Method:
    """RAFT-small with the given parameters, jitted; `options` are others of `pair_flow`.

    With `points` it gives flow at these alone.
    """
    compute = jax.jit(functools.partial(pair_flow, iters=iters, **options))

    def flow(frames: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        return np.asarray(compute(params, frames, source.astype(np.int32), target.astype(np.int32)))

    return flow


def classical_method(name: str) -> Method:
    """One of `CLASSICAL`; on one thread of the host.

    Raises:
      MgmaeError: there is no such method.
    """
    if name not in CLASSICAL:
        raise MgmaeError(f"--methods {name}: give a weights file, bundled, or one of {', '.join(CLASSICAL)}")
    if name == "none":
        return lambda frames, source, target: np.zeros((len(source), *frames.shape[1:3], 2), np.float32)
    if name == "dis":
        return functools.partial(host_flow, method="dis")
    return functools.partial(host_flow, method="tvl1", fast=name == "tvl1_fast")
