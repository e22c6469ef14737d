"""The frozen encoder of a checkpoint."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.errors import MgmaeError
from mgmae_jax.evaluate.evaluator import checksum
from mgmae_jax.evaluate.run import abstract_params, which_weights
from mgmae_jax.models.classifier import Classifier, PretrainedEncoder, build_classifier, build_pretrained_encoder
from mgmae_jax.ops.apply import apply_module
from mgmae_jax.runtime.checkpoint import checkpoint_name, restore_params
from mgmae_jax.runtime.config_checks import kind_of
from mgmae_jax.runtime.mesh import make_on
from mgmae_jax.runtime.rng import stream
from mgmae_jax.runtime.weights import Checkpoint

What = Literal["pooled", "tubelets", "regions", "tokens"]
REGIONS = 3
"""Regions along each side of a frame."""


@dataclasses.dataclass(frozen=True)
class FrozenEncoder:
    """An encoder that is no longer trained.

    Attributes:
      model: a pre-trained encoder, or a fine-tuned classifier, whose head is not used.
      params: its parameters, on the mesh.
      clip: the clips that it was trained on.
      about: checkpoint, weights ("params", "ema" or "random"), checksum of the parameters.
    """

    model: PretrainedEncoder | Classifier
    params: Any
    clip: ClipSpec
    about: Mapping[str, str]

    def function(self, what: What) -> Callable[[Any, Array], Float[Array, "B ..."]]:
        """(params, clips uint8 [B, T, S, S, 3]) -> float32 features.

        "pooled" [B, D] is the mean of the tokens; for a fine-tuned model, it is the input of its head, which is that
        mean, normalised. "tubelets" [B, t * D] are the means of the tokens of each tubelet, one after another: unlike
        the mean of all tokens, they keep the temporal order. "regions" [B, t * r * c * D] are the means of 3 x 3
        regions of each tubelet (fewer if it has fewer rows or columns): they also tell roughly where things are.
        "tokens" [B, N, D] are by (tubelet, row, column): for a pre-trained model after its last norm, for a fine-tuned
        one, which has no norm there, unchanged.
        """
        method = "features" if what == "pooled" else "tokens"
        grid = self.model.grid

        def features(params: Any, clips: Array) -> Float[Array, "B ..."]:
            found = apply_module(self.model, params, clips, method=method).astype(jnp.float32)
            if what in ("tubelets", "regions"):
                apart = found.reshape(len(found), grid.tubelets, grid.rows, grid.columns, -1)
                sides = (1, 1) if what == "tubelets" else (REGIONS, REGIONS)
                rows, columns = (_averages(*side) for side in zip((grid.rows, grid.columns), sides, strict=True))
                exact = jax.lax.Precision.HIGHEST
                found = jnp.einsum("btrcd,ir,jc->btijd", apart, rows, columns, precision=exact).reshape(len(found), -1)
            return found

        return features

    def shape(self, what: What) -> tuple[int, ...]:
        """The shape of a clip's features: (D,), (t * D,), (t * r * c * D,) or (N, D)."""
        width, grid = self.model.variant.width, self.model.grid
        regions = grid.tubelets * min(REGIONS, grid.rows) * min(REGIONS, grid.columns)
        shapes: dict[What, tuple[int, ...]] = {
            "pooled": (width,),
            "tubelets": (grid.tubelets * width,),
            "regions": (regions * width,),
            "tokens": (grid.tokens, width),
        }
        return shapes[what]


def _averages(length: int, regions: int) -> Float[np.ndarray, "{min(length,regions)} {length}"]:
    """The weights that average a side of `length` tokens over regions of nearly equal size."""
    parts = np.array_split(np.eye(length, dtype=np.float32), min(length, regions))
    return np.stack([part.mean(axis=0) for part in parts])


def load_frozen(config: ConfigDict, checkpoint: Checkpoint, mesh: Mesh, *, trained: bool = True) -> FrozenEncoder:
    """The encoder of a pre-training or fine-tuning checkpoint; if the run averages its weights, the average.

    Args:
      config: the config of its run.
      checkpoint: as for `restore_params`.
      mesh: the devices, for the parameters.
      trained: False gives random parameters instead, drawn from the run's seed: the baseline for the trained encoder.

    Raises:
      MgmaeError: there is no such checkpoint, or it does not belong to that config.
    """
    pretrained = kind_of(config) == "pretrain"
    model = build_pretrained_encoder(config) if pretrained else build_classifier(config)
    if isinstance(model, Classifier) and (model.hidden or model.bridge is not None):
        wrong = "hides tokens from its encoder, or has blocks between encoder and head (mask.ratio, model.bridge_depth)"
        raise MgmaeError(f"a classifier that {wrong} cannot be probed: give the checkpoint of its pre-training.")
    weights = "params" if pretrained else which_weights(config)
    abstract = {name: shapes for name, shapes in abstract_params(model, mesh).items() if name != "head"}
    if trained:
        params = restore_params(checkpoint, abstract, weights)
    else:
        weights, clips = "random", jnp.zeros((1, model.grid.frames, model.grid.height, model.grid.width, 3), jnp.uint8)
        key = stream(jax.random.key(config.seed), 0, "init")
        params = make_on(abstract, lambda: {name: model.init(key, clips)["params"][name] for name in abstract})
    about = {"checkpoint": checkpoint_name(checkpoint), "weights": weights, "parameters": checksum(params)}
    return FrozenEncoder(model, params, ClipSpec(config.clip.frames, config.clip.stride, config.clip.size), about)
