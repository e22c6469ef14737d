"""The parts of a run from its config; every wrong value is a ConfigError before anything starts."""

import functools
import math
from collections.abc import Mapping
from operator import attrgetter
from typing import Any, get_args

import jax.numpy as jnp
from ml_collections import ConfigDict

from mgmae_jax.errors import ConfigError
from mgmae_jax.masking.samplers import MaskOptions
from mgmae_jax.masking.select import visible_per_tubelet
from mgmae_jax.models.classifier import Classifier
from mgmae_jax.models.mae import MaskedAutoencoder
from mgmae_jax.models.positions import Positions
from mgmae_jax.models.pretrained_encoder import PretrainedEncoder
from mgmae_jax.models.variants import find_variant
from mgmae_jax.ops.grid import TokenGrid
from mgmae_jax.train.finetune import Finetuning
from mgmae_jax.train.mask_step import FlowOptions, MaskStep
from mgmae_jax.train.mixing import MixOptions
from mgmae_jax.train.optim import (
    Schedule,
    adamw_direction,
    cosine_schedule,
    layer_scales,
    muon_direction,
    scaled_rate,
)
from mgmae_jax.train.pretrain import Pretraining
from mgmae_jax.train.targets import find_target

_MACHINE_FIELDS = (
    "data.workers",
    "train.log_every",
    "checkpoint",
    "mesh",
    "compile_cache",
    "model.remat",
)
PRETRAIN_MACHINE_FIELDS = (*_MACHINE_FIELDS, "flow.weights", "flow.path", "preview")
"""Fields that do not change what is learned: a run may go on with others. (The weights' hash is checked by itself.)"""
FINETUNE_MACHINE_FIELDS = (*_MACHINE_FIELDS, "data.allow_missing", "eval.clips_per_device", "eval.every")

_OPTIMISERS = {"adamw": adamw_direction, "muon": muon_direction}
_LEAST = {
    "seed": 0,
    "clip.stride": 1,
    "data.views": 1,
    "data.workers": 0,
    "data.max_bad_fraction": 0,
    "optim.min_lr": 0,
    "optim.warmup_epochs": 0,
    "optim.weight_decay": 0,
    "train.batch_size": 1,
    "train.accumulate": 1,
    "train.log_every": 1,
    "train.max_bad_steps": 1,
    "checkpoint.every": 1,
    "checkpoint.keep": 1,
}
_LEAST_PRETRAINING = {"model.decoder_depth": 1, "preview.every": 0}
_LEAST_FINETUNING = {"eval.every": 0}


def build_mask_step(config: ConfigDict) -> MaskStep:
    """The masking step that config.clip, config.mask and config.flow describe.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    clip, model, flow = config.clip, config.model, config.flow
    grid = TokenGrid(clip.frames, clip.size, clip.size, model.tubelet, model.patch)
    options = MaskOptions(**config.mask)
    visible_per_tubelet(options.ratio, grid)
    parse_dtype("flow.dtype", flow.dtype)
    return MaskStep(grid, options, FlowOptions(flow.source, flow.iters, flow.size, flow.dtype, flow.tvl1_fast))


def build_pretraining(config: ConfigDict, videos: int) -> Pretraining:
    """The model, masks and optimiser of a run over `videos` videos.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    masks = build_mask_step(config)
    check_numbers(config)
    check_attention(config)
    model = MaskedAutoencoder(
        variant=find_variant(config.model.name),
        grid=masks.grid,
        decoder_depth=config.model.decoder_depth,
        dtype=parse_dtype("model.dtype", config.model.dtype),
        implementation=config.model.attention,
        remat=config.model.remat,
        positions=find_positions(config),
    )
    optim = config.optim
    if optim.name not in _OPTIMISERS:
        raise ConfigError("optim.name", optim.name, "one of " + ", ".join(_OPTIMISERS))
    optimiser = _OPTIMISERS[optim.name](b1=optim.b1, b2=optim.b2, weight_decay=optim.weight_decay)
    target = find_target(config.loss.target)
    return Pretraining(model, masks, optimiser, build_schedule(config, videos), config.train.accumulate, target)


def build_schedule(config: ConfigDict, videos: int) -> Schedule:
    """The learning rate of each step that config.optim and config.train describe, over `videos` examples an epoch."""
    batch, optim = config.train.batch_size, config.optim
    steps = epochs_to_steps(config.train.epochs, videos, batch)
    warmup_steps = int(optim.warmup_epochs * videos / batch)
    if warmup_steps >= steps:
        want = f"a warm-up shorter than the run, which is train.epochs={config.train.epochs}"
        raise ConfigError("optim.warmup_epochs", optim.warmup_epochs, want)
    return cosine_schedule(
        scaled_rate(optim.lr, batch),
        scaled_rate(optim.min_lr, batch),
        steps=steps,
        warmup_steps=warmup_steps,
    )


def build_classifier(config: ConfigDict) -> Classifier:
    """The classifier that config.clip and config.model of a fine-tuning config describe.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    clip, model = config.clip, config.model
    check_attention(config)
    for field in ("classes", "init_scale"):
        if not getattr(model, field) > 0:
            raise ConfigError(f"model.{field}", getattr(model, field), "a number above 0")
    for field in ("drop_path", "head_dropout"):
        if not 0 <= getattr(model, field) < 1:
            raise ConfigError(f"model.{field}", getattr(model, field), "from 0 to below 1")
    trained = (model.trained_frames or clip.frames, *[model.trained_size or clip.size] * 2)
    return Classifier(
        variant=find_variant(model.name),
        grid=TokenGrid(clip.frames, clip.size, clip.size, model.tubelet, model.patch),
        classes=model.classes,
        drop_path=model.drop_path,
        head_dropout=model.head_dropout,
        init_scale=model.init_scale,
        dtype=parse_dtype("model.dtype", model.dtype),
        implementation=model.attention,
        remat=model.remat,
        trained_grid=TokenGrid(*trained, model.tubelet, model.patch),
        positions=find_positions(config),
    )


def build_finetuning(config: ConfigDict, videos: int) -> Finetuning:
    """The classifier and optimiser of a fine-tuning run over `videos` videos.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    check_numbers(config)
    model, optim = build_classifier(config), config.optim
    if not 0 < optim.layer_decay <= 1:
        raise ConfigError("optim.layer_decay", optim.layer_decay, "a number above 0, up to 1")
    if not 0 <= config.train.ema_decay < 1:
        raise ConfigError("train.ema_decay", config.train.ema_decay, "from 0 to below 1")
    optimiser = adamw_direction(
        b1=optim.b1,
        b2=optim.b2,
        weight_decay=optim.weight_decay,
        scales=functools.partial(layer_scales, depth=model.variant.depth, decay=optim.layer_decay),
    )
    mix = MixOptions(**config.mix)
    schedule = build_schedule(config, videos)
    return Finetuning(model, mix, optimiser, schedule, config.train.accumulate, config.train.ema_decay)


def build_pretrained_encoder(config: ConfigDict) -> PretrainedEncoder:
    """The encoder, for whole clips, that a pre-training config describes.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    clip, model = config.clip, config.model
    check_attention(config)
    grid = TokenGrid(clip.frames, clip.size, clip.size, model.tubelet, model.patch)
    dtype = parse_dtype("model.dtype", model.dtype)
    return PretrainedEncoder(find_variant(model.name), grid, dtype, model.attention, find_positions(config))


def find_positions(config: ConfigDict) -> Positions:
    """The position table of a config's model; flat in the configs of runs from before there was another.

    Raises:
      ConfigError: there is none of that name.
    """
    positions = config.model.get("positions", "flat")
    if positions not in get_args(Positions):
        raise ConfigError("model.positions", positions, "one of " + ", ".join(get_args(Positions)))
    return positions


def check_attention(config: ConfigDict) -> None:
    """Sees that `model.attention` is known."""
    if config.model.attention not in ("xla", "cudnn"):
        raise ConfigError("model.attention", config.model.attention, "one of xla, cudnn")


def check_numbers(config: ConfigDict) -> None:
    """Sees that counts and rates are in range.

    Raises:
      ConfigError: one is not.
    """
    least_of = _LEAST | (_LEAST_PRETRAINING if "mask" in config else _LEAST_FINETUNING)
    check_least(config, least_of)
    if not 0 < config.optim.lr < math.inf:
        raise ConfigError("optim.lr", config.optim.lr, "a number above 0")
    clips = config.train.batch_size * config.data.views
    if clips % config.train.accumulate:
        raise ConfigError("train.accumulate", config.train.accumulate, f"a divisor of the {clips} clips of a step")


def check_least(config: ConfigDict, least_of: Mapping[str, float]) -> None:
    """Sees that fields, by dotted name, are finite and at least so much.

    Raises:
      ConfigError: one is not.
    """
    for field, least in least_of.items():
        value = attrgetter(field)(config)
        if not least <= value < math.inf:
            raise ConfigError(field, value, f"{least} or more")


def epochs_to_steps(epochs: float, videos: int, batch_size: int) -> int:
    """Steps in `epochs` passes over the videos, at least 1."""
    if not 0 < epochs < math.inf:
        raise ConfigError("train.epochs", epochs, "a number above 0")
    return max(1, int(epochs * videos / batch_size))


def parse_dtype(field: str, name: str) -> jnp.dtype:
    """The dtype called float32 or bfloat16.

    Raises:
      ConfigError: `name`, the value of config.FIELD, is another.
    """
    allowed: Mapping[str, Any] = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
    if name not in allowed:
        raise ConfigError(field, name, "one of " + ", ".join(allowed))
    return jnp.dtype(allowed[name])
