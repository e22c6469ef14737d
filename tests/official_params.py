"""The official programs' tensors as this project's parameters, some of them or all; `mgmae convert` asks for all."""

from collections.abc import Mapping

import numpy as np
from flax import traverse_util

from mgmae_jax.interop.names import own_name, to_own

_WHOLE = ("encoder.", "decoder.", "encoder_to_decoder.", "mask_token", "fc_norm.", "head.")


def official_params(tensors: Mapping[str, np.ndarray]) -> dict:
    """A tree of parameters from tensors of VideoMAE's pre-training model, or of its classifier."""
    names = {name: name if name.startswith(_WHOLE) else f"encoder.{name}" for name in tensors}
    flat = {own_name(whole): to_own(whole, tensors[name]) for name, whole in names.items()}
    return traverse_util.unflatten_dict(flat, sep=".")
