"""Named random streams: a key is a pure function of (root key, step, stream name, global example index).

Nothing random is stored: a resumed run, or one on another number of devices, draws what the original would have drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

# A stream's id is its place here, so names are only ever appended: moving one would change every run. An empty name
# keeps the place of a stream that was never drawn.
STREAMS = ("init", "mask", "", "", "drop_path", "dropout", "mixup", "flow_error")


def stream(root_key: jax.Array, step: jax.Array | int, name: str) -> jax.Array:
    """Returns the key for one purpose at one step.

    Args:
      root_key: the run's typed key, `jax.random.key(seed)`.
      step: the training step, at least 0; may be traced.
      name: one of `STREAMS`.

    Returns:
      A typed key, `fold_in(fold_in(root_key, step), id of name)`.

    Raises:
      ValueError: the name is not in `STREAMS`.
    """
    return named_key(jax.random.fold_in(root_key, step), name, STREAMS)


def named_key(key: jax.Array, name: str, names: Sequence[str]) -> jax.Array:
    """Folds a name into a key, by its place among names that are only ever appended to.

    Raises:
      ValueError: the name is not among them.
    """
    if not name or name not in names:
        raise ValueError(f"no random stream is called {name!r}: use one of {', '.join(filter(None, names))}, or append")
    return jax.random.fold_in(key, names.index(name))


def per_example(key: jax.Array, start: jax.Array | int, count: int) -> jax.Array:
    """Returns a key for each of `count` examples, by its index in the global batch.

    Args:
      key: a typed key, from `stream`.
      start: the global index of the first example, 0 for a whole batch; may be traced.
      count: how many examples, known before tracing.

    Returns:
      Typed keys, shape [count]; key i is `fold_in(key, start + i)`, whatever the batch is split into.
    """
    indices = jnp.asarray(start, jnp.uint32) + jnp.arange(count, dtype=jnp.uint32)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, indices)
