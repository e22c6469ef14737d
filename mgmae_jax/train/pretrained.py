"""The encoder of a pre-trained model, for a classifier."""

from pathlib import Path
from typing import Any

from mgmae_jax.runtime.checkpoint import restore_params


def load_encoder(checkpoint: str | Path, abstract_encoder: Any) -> Any:
    """Reads the encoder's parameters of a pre-training checkpoint, or of a fine-tuned classifier's.

    Args:
      checkpoint: as for `runtime.checkpoint.find_checkpoint`.
      abstract_encoder: the classifier's subtree `encoder`, of `jax.ShapeDtypeStruct` with a `sharding`. The norm after
        the blocks of the pre-training is left out.

    Returns:
      The parameters, with the dtypes and shardings of `abstract_encoder`.

    Raises:
      FileError: there is no checkpoint, it is damaged, or it is of a model of another size; the message names the
        tensors that differ.
    """
    return restore_params(checkpoint, {"encoder": abstract_encoder})["encoder"]
