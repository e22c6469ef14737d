"""Classification of frozen features: by a small model that is trained on them, or by the votes of neighbours."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key

from mgmae_jax.evaluate.predictions import kept
from mgmae_jax.models.probes import AttentiveProbe, LinearProbe
from mgmae_jax.ops.apply import apply_module
from mgmae_jax.ops.placement import on_mesh
from mgmae_jax.runtime.mesh import process_share, put_batch, replicated
from mgmae_jax.runtime.share import Share
from mgmae_jax.train.optim import Schedule
from mgmae_jax.train.state import TrainState, apply_update, create


@dataclasses.dataclass(frozen=True)
class Probing:
    """The parts of a probe's training.

    Args:
      model: computes logits from the features of one view.
      optimiser: computes the direction of each update.
      schedule: the learning rate of each step.
    """

    model: LinearProbe | AttentiveProbe
    optimiser: optax.GradientTransformation
    schedule: Schedule

    def init(self, key: Key[Array, ""], shape: tuple[int, ...]) -> TrainState:
        """The state before the first step, for features of the given shape."""
        return create(self.model.init(key, jnp.zeros((1, *shape)))["params"], self.optimiser)

    def logits(self, params: Any, scaling: "Scaling", features: Float[Array, "B ..."]) -> Float[Array, "B C"]:
        """Computes the logits of views from their features."""
        return apply_module(self.model, params, scaling(features))

    def step(
        self, state: TrainState, scaling: "Scaling", batch: Mapping[str, Array], key: Key[Array, ""]
    ) -> tuple[TrainState, dict[str, Array]]:
        """One step of the cross-entropy; see `loop.Run.step`. Nothing is random.

        Args:
          state: the state before the step.
          scaling: the scaling of the features.
          batch: "features" [B, ...] and "label" int32 [B].
          key: unused.
        """

        def loss_of(params: Any) -> Float[Array, ""]:
            logits = self.logits(params, scaling, batch["features"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

        loss, grads = jax.value_and_grad(loss_of)(state.params)
        return apply_update(state, self.optimiser, loss, grads, self.schedule(state.step))


_BLOCK = 1024  # videos


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scaling:
    """Brings features to mean 0 and variance 1, per channel; pre-trained scales differ a hundredfold."""

    mean: Float[Array, "D"] | Float[np.ndarray, "D"]
    scale: Float[Array, "D"] | Float[np.ndarray, "D"]

    def __call__(self, features: Float[Array, "B ... D"]) -> Float[Array, "B ... D"]:
        """The scaled features, float32."""
        features = features.astype(jnp.float32)
        shape = (1,) * (features.ndim - 1) + (-1,)
        return (features - self.mean.reshape(shape)) * self.scale.reshape(shape)

    @classmethod
    def of(cls, features: np.ndarray) -> "Scaling":
        """The scaling of these training features [n, V, D]; tokens [n, V, N, D] are not scaled, since the probe has a
        norm.

        Returns:
          Host arrays.
        """
        width = features.shape[-1]
        if features.ndim > 3:
            return cls(np.zeros(width, np.float32), np.ones(width, np.float32))
        # In blocks, as all features in float64 may not fit in memory.
        blocks = [slice(first, first + _BLOCK) for first in range(0, len(features), _BLOCK)]
        count = features.size // width

        def sum_of(function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
            return sum(function(features[block].astype(np.float64).reshape(-1, width)).sum(axis=0) for block in blocks)

        mean = sum_of(lambda rows: rows) / count
        scale = 1 / np.maximum(np.sqrt(sum_of(lambda rows: np.square(rows - mean)) / count), 1e-6)
        return cls(mean.astype(np.float32), scale.astype(np.float32))


def feature_batches(
    features: np.ndarray, labels: np.ndarray, *, batch_size: int, seed: int, share: Share
) -> Callable[[int], AbstractContextManager[Iterator[dict[str, np.ndarray]]]]:
    """Batches of views in shuffled epochs, for `loop.Run.batches`: the example at a position is a function of the seed.

    Args:
      features: [n, V, ...]; every view is an example.
      labels: int [n].
      batch_size: views per step, over all processes.
      seed: the seed of the order.
      share: which examples of each batch this process gives.
    """
    videos, views = features.shape[:2]
    examples, mine = videos * views, share.examples(batch_size)

    def order_of(epoch: int) -> np.ndarray:
        return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch,))).permutation(examples)

    def batches(first: int) -> Iterator[dict[str, np.ndarray]]:
        orders: dict[int, np.ndarray] = {}
        step = first
        while True:
            positions = step * batch_size + mine
            epochs, places = np.divmod(positions, examples)
            needed = np.unique(epochs).tolist()
            orders = {epoch: orders[epoch] if epoch in orders else order_of(epoch) for epoch in needed}
            chosen = np.array([orders[epoch][place] for epoch, place in zip(epochs.tolist(), places, strict=True)])
            video, view = np.divmod(chosen, views)
            yield {"features": features[video, view], "label": labels[video].astype(np.int32)}
            step += 1

    return lambda first: nullcontext(batches(first))


def neighbour_shares(
    bank: Float[Array, "M D"],
    labels: Int[Array, "M"],
    queries: Float[Array, "B D"],
    *,
    classes: int,
    neighbours: int,
    temperature: float,
) -> Float[Array, "B classes"]:
    """The share of the votes that each class gets from a query's nearest neighbours (Wu et al., arXiv 1805.01978).

    Args:
      bank: features of unit length with known labels.
      labels: the labels of `bank`.
      queries: features of unit length.
      classes: number of classes, C.
      neighbours: how many vote: those with the largest cosine.
      temperature: a vote weighs exp(cosine / temperature).
    """
    cosine = jnp.matmul(queries, bank.T, precision=jax.lax.Precision.HIGHEST)
    nearest, index = jax.lax.top_k(cosine, min(neighbours, bank.shape[0]))
    weights = jax.nn.softmax(nearest / temperature)
    votes = jax.nn.one_hot(labels[index], classes)
    return (weights[..., None] * votes).sum(axis=1)


def unit_length(features: np.ndarray) -> np.ndarray:
    """The mean over the views of pooled features [n, V, D], scaled to unit length: float32 [n, D]."""
    mean = np.asarray(features, np.float64).mean(axis=1)
    return (mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def best_classes(
    shares: Callable[[Any, Array], Float[Array, "B C"]], known: Any, rows: np.ndarray, mesh: Mesh, per_device: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """The most probable classes of rows of features; to be called by every process.

    Args:
      shares: (known, rows [B, ...]) -> probabilities.
      known: parameters or neighbours, on the mesh.
      rows: [n, ...], the same in every process.
      mesh: the devices.
      per_device: rows that a device processes at once.

    Returns:
      int32 [n, K] and their probabilities float32 [n, K], see `predictions.kept`.
    """

    def best(known: Any, batch: Mapping[str, Array]) -> tuple[Array, Array]:
        found = shares(known, batch["rows"])
        return jax.lax.top_k(found, kept(found.shape[1]))

    step = jax.jit(on_mesh(best, mesh), out_shardings=replicated(mesh))
    batch = per_device * mesh.size
    places = process_share(mesh).rows(batch)
    results = []
    for start in range(0, len(rows), batch):
        mine = start + places
        padded = np.zeros((len(mine), *rows.shape[1:]), rows.dtype)
        padded[mine < len(rows)] = rows[mine[mine < len(rows)]]
        results.append(jax.device_get(step(known, put_batch({"rows": padded}, mesh))))
    probabilities, indices = (np.concatenate(part)[: len(rows)] for part in zip(*results, strict=True))
    return indices.astype(np.int32), probabilities
