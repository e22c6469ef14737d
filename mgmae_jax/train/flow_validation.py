"""Validation of a flow network during training: on held-out synthetic pairs, and on real ones if given."""

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from ml_collections import ConfigDict

from mgmae_jax.datasets.flow_pairs.batches import synthetic_batches
from mgmae_jax.flow.clip_flow import pair_flow
from mgmae_jax.flow.metrics import flow_scores
from mgmae_jax.runtime.distributed import is_primary
from mgmae_jax.runtime.metrics import MetricWriter, read_metrics
from mgmae_jax.train.state import TrainState

_HELD_OUT = 1_000_000
"""Added to the run's seed, so that no texture, outline or scene of the validation was ever trained on."""
REAL_ITERS = 12


class FlowValidation:
    """A hook of the training loop: scores the averaged parameters, and has the best ones kept.

    Args:
      options: config.validate.
      seed: the run's seed.
      real_pairs: by name, pairs as `data.flow_files.read_pair` gives them; scored at 12 updates and only monitored:
        they do not decide which weights are the best.
      writer: writes the scores; its file already holds those from before the run resumed.
      keep_best: called in the first process with (parameters, scores, step) when "epe" is the lowest so far.
      total: the run's last step.
      starts_trained: whether the run starts from given weights. They are scored first, so that weights are kept as the
        best only if they are better than those.
    """

    def __init__(
        self,
        options: ConfigDict,
        seed: int,
        real_pairs: Mapping[str, Mapping[str, np.ndarray]],
        writer: MetricWriter,
        keep_best: Callable[[Mapping[str, Any], dict[str, float], int], None],
        total: int,
        *,
        starts_trained: bool,
    ) -> None:
        self._options, self._seed, self._real_pairs = options, seed, real_pairs
        self._writer, self._keep_best, self._total = writer, keep_best, total
        self._pairs: list[dict[str, np.ndarray]] = []
        earlier = read_metrics(writer.path) if writer.path.exists() else []
        self._best = min((line["epe"] for line in earlier), default=np.inf)
        self._done = earlier[-1]["step"] if earlier else -1 if starts_trained else 0
        self._score = jax.jit(functools.partial(score_pair, iters=options.iters))
        self._score_real = jax.jit(functools.partial(score_pair, iters=REAL_ITERS))

    def __call__(self, done: int, state: TrainState) -> None:
        """Validates when it is due."""
        if done % self._options.every and done != self._total:
            return
        if done == self._done or not is_primary():  # the loop also calls its hooks when it starts or resumes
            return
        self._done = done
        params = jax.device_get(state.ema)
        scores = _mean([self._score(params, pair) for pair in self._held_out()])
        for name, pair in self._real_pairs.items():
            scores[f"real/{name}"] = float(self._score_real(params, pair)["epe"])
        best = scores["epe"] < self._best
        print(
            f"\nvalidation at step {done}: end-point error {scores['epe']:.3f} px, "
            f"{scores['over_3px']:.1%} off by more than 3 px{', the best so far' if best else ''}",
            file=sys.stderr,
            flush=True,
        )
        if best:
            self._best = scores["epe"]
            self._keep_best(params, scores, done)
        self._writer.write(done, scores)  # last: what is in the file is not measured again

    def _held_out(self) -> list[dict[str, np.ndarray]]:
        """Makes the validation set when it is first needed."""
        if not self._pairs:
            options = self._options
            with synthetic_batches(
                self._seed + _HELD_OUT, 0, batch_size=1, size=options.size, threads=1, drawn=True
            ) as batches:
                for _ in range(options.pairs):
                    pair = {name: array[0] for name, array in next(batches).items()}
                    self._pairs.append(pair | {"valid": np.ones(pair["flow"].shape[:2], bool)})
        return self._pairs


def score_pair(params: Any, pair: Mapping[str, Array], *, iters: int) -> dict[str, Array]:
    """Scores of the flow from "image1" to "image2" against "flow" where "valid"."""
    clip = jnp.stack([pair["image1"], pair["image2"]])
    index = np.arange(2, dtype=np.int32)
    flow = pair_flow(params, clip, index[:1], index[1:], iters=iters)[0]
    return flow_scores(flow, pair["flow"], pair["valid"])


def _mean(scores: Sequence[Mapping[str, Array]]) -> dict[str, float]:
    host = jax.device_get(list(scores))
    return {name: float(np.mean([score[name] for score in host])) for name in host[0]}
