"""The whole pre-training step, with motion guided masks and with tube masks, and the parts that account for the
difference."""

import functools

import jax
from ml_collections import ConfigDict

from mgmae_jax.bench.masking import COMPARED, VIDEOS, Case, part_cases, place_inputs, with_masks, with_preset
from mgmae_jax.bench.measure import Measurement, measure
from mgmae_jax.runtime.mesh import abstract_on, make_mesh, make_on
from mgmae_jax.runtime.rng import stream
from mgmae_jax.train.pretrain import build_pretraining


def pretrain_cases(config: ConfigDict) -> list[Case]:
    """The rows of `mgmae bench pretrain`.

    Args:
      config: see configs/pretrain/common.py; a step works on `train.batch_size` clips.

    Raises:
      ConfigError: a field has a value that cannot work.
    """
    motion = {preset: with_preset(with_masks(config, "motion"), preset) for preset in COMPARED}
    build_pretraining(motion["paper"], VIDEOS)
    return [
        *(functools.partial(measure_step, f"step, motion masks, {preset}", motion[preset]) for preset in COMPARED),
        functools.partial(measure_step, "step, tube masks", with_masks(config, "tube")),
        *(case for preset in COMPARED for case in part_cases(config, preset)),
    ]


def measure_step(name: str, config: ConfigDict, repeats: int) -> Measurement:
    """Measures the train step that the config describes, jitted, its state donated."""
    pretraining = build_pretraining(config, VIDEOS)
    mesh = make_mesh(config.mesh.fsdp)

    def init() -> object:
        return pretraining.init(stream(jax.random.key(config.seed), 0, "init"))

    state = make_on(abstract_on(mesh, init), init)
    inputs = place_inputs(pretraining.masks, config)
    return measure(name, pretraining.step, state, inputs, clips=config.train.batch_size, repeats=repeats)
