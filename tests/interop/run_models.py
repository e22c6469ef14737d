"""Outputs of models from files, by the code that `mgmae evaluate` and `mgmae visualize` run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mgmae_jax.commands.checkpoints import model_config, open_checkpoint
from mgmae_jax.evaluate.run import abstract_params
from mgmae_jax.models.classifier import build_classifier
from mgmae_jax.models.mae import build_autoencoder
from mgmae_jax.ops.apply import apply_module
from mgmae_jax.ops.tokens import TokenGrid, TokenSplit, normalise_pixels, patchify, take_tokens, unit_range
from mgmae_jax.runtime.checkpoint import restore_params
from mgmae_jax.runtime.mesh import make_mesh


def opened(place, clip, asked):
    """A checkpoint and its config, for clips uint8 [B, T, S, S, 3]."""
    checkpoint = open_checkpoint(str(place), asked)
    overrides = [f"--config.clip.frames={clip.shape[1]}", f"--config.clip.size={clip.shape[2]}"]
    return checkpoint, model_config(checkpoint, overrides)


@functools.cache
def _scores(model):
    def both(params, clip):
        features = apply_module(model, params, clip, method="features")
        return features, apply_module(model, params, clip)

    return jax.jit(both)


def classify(place, clip, asked):
    """Features [B, D] and logits [B, classes] of clips."""
    checkpoint, config = opened(place, clip, asked)
    model = build_classifier(config)
    params = restore_params(checkpoint, abstract_params(model, make_mesh()))
    features, logits = _scores(model)(params, jnp.asarray(clip))
    return np.asarray(features), np.asarray(logits)


@functools.cache
def _predictions(model):
    def both(params, visible, split):
        latent = model.apply({"params": params}, visible, split.visible, method=lambda module, *a: module.encoder(*a))
        return latent, model.apply({"params": params}, visible, split)

    return jax.jit(both)


def reconstruct(place, clip, hidden, asked):
    """The encoder's output of the visible tokens, and the prediction of those that `hidden` [B, N] marks."""
    checkpoint, config = opened(place, clip, asked)
    grid = TokenGrid(clip.shape[1], clip.shape[2], clip.shape[2], config.model.tubelet, config.model.patch)
    model = build_autoencoder(config, grid)
    rows = [np.stack([np.flatnonzero(row) for row in marks]).astype(np.int32) for marks in (~hidden, hidden)]
    split = TokenSplit(*map(jnp.asarray, rows))
    visible = take_tokens(normalise_pixels(unit_range(patchify(jnp.asarray(clip), grid))), split.visible)
    abstract = jax.eval_shape(lambda key: model.init(key, visible, split), jax.random.key(0))["params"]
    latent, prediction = _predictions(model)(restore_params(checkpoint, abstract), visible, split)
    return np.asarray(latent), np.asarray(prediction)
