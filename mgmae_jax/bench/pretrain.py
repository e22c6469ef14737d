"""The whole pre-training step, with motion guided masks and with tube masks, and the parts that account for the
difference."""

import functools

import jax
from ml_collections import ConfigDict

from mgmae_jax.bench.masking import Case, part_cases, place_inputs, with_masks
from mgmae_jax.bench.measure import Measurement, measure
from mgmae_jax.runtime.mesh import abstract_on, make_mesh, make_on
from mgmae_jax.runtime.rng import stream
from mgmae_jax.train.pretrain import build_pretraining

_VIDEOS = 168_913  # in Something-Something V2's training set; the learning rate depends on it, the time does not


def pretrain_cases(config: ConfigDict) -> list[Case]:
    """The rows of `mgmae bench pretrain`.

    Args:
      config: see configs/pretrain/common.py; a step works on `train.batch_size` clips.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    build_pretraining(with_masks(config, "motion"), _VIDEOS)
    return [
        functools.partial(measure_step, "step, motion masks", with_masks(config, "motion")),
        functools.partial(measure_step, "step, tube masks", with_masks(config, "tube")),
        *part_cases(config),
    ]


def measure_step(name: str, config: ConfigDict, repeats: int) -> Measurement:
    """Measures the train step that the config describes, jitted, its state donated."""
    pretraining = build_pretraining(config, _VIDEOS)
    mesh = make_mesh(config.mesh.fsdp)

    def init() -> object:
        return pretraining.init(stream(jax.random.key(config.seed), 0, "init"))

    state = make_on(abstract_on(mesh, init), init)
    inputs = place_inputs(pretraining.masks, config)
    return measure(name, pretraining.step, state, inputs, clips=config.train.batch_size, repeats=repeats)
