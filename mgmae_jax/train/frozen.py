"""The frozen encoder of a checkpoint."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from mgmae_jax.data.clips import ClipSpec
from mgmae_jax.models.classifier import Classifier
from mgmae_jax.models.pretrained_encoder import PretrainedEncoder
from mgmae_jax.runtime.checkpoint import find_checkpoint, restore_params
from mgmae_jax.train.evaluate import checksum
from mgmae_jax.train.evaluate_run import abstract_params, which_weights
from mgmae_jax.train.from_config import build_classifier, build_pretrained_encoder

What = Literal["pooled", "tokens"]


@dataclasses.dataclass(frozen=True)
class FrozenEncoder:
    """An encoder that is not trained any more.

    Attributes:
      model: a pre-trained encoder, or a fine-tuned classifier, of which the head is not used.
      params: its parameters, on the mesh.
      clip: the clips that it was trained on.
      about: checkpoint, weights ("params" or "ema"), checksum of the parameters.
    """

    model: PretrainedEncoder | Classifier
    params: Any
    clip: ClipSpec
    about: Mapping[str, str]

    def function(self, what: What) -> Callable[[Any, Array], Float[Array, "B ..."]]:
        """(params, clips uint8 [B, T, S, S, 3]) -> float32 features.

        "pooled" [B, D] is the mean of the tokens; of a fine-tuned model what its head sees, which is that mean,
        normalised. "tokens" [B, N, D] are by (tubelet, row, column): of a pre-trained model after its last norm, of a
        fine-tuned one, which has no norm there, as they are.
        """
        method = "features" if what == "pooled" else "tokens"
        return lambda params, clips: self.model.apply({"params": params}, clips, method=method).astype(jnp.float32)

    def shape(self, what: What) -> tuple[int, ...]:
        """Of the features of a clip: (D,) or (N, D)."""
        width = self.model.variant.width
        return (width,) if what == "pooled" else (self.model.grid.tokens, width)


def load_frozen(config: ConfigDict, checkpoint: Path, mesh: Mesh) -> FrozenEncoder:
    """The encoder of a pre-training or fine-tuning checkpoint; of a run that averages its weights, the average.

    Args:
      config: of its run.
      checkpoint: as for `find_checkpoint`.
      mesh: for the parameters.

    Raises:
      MgmaeError: there is no such checkpoint, or it is not of that config.
    """
    pretrained = "mask" in config
    model = build_pretrained_encoder(config) if pretrained else build_classifier(config)
    weights = "params" if pretrained else which_weights(config)
    abstract = {name: shapes for name, shapes in abstract_params(model, mesh).items() if name != "head"}
    params = restore_params(checkpoint, abstract, weights)
    about = {"checkpoint": str(find_checkpoint(checkpoint)), "weights": weights, "parameters": checksum(params)}
    return FrozenEncoder(model, params, ClipSpec(config.clip.frames, config.clip.stride, config.clip.size), about)
