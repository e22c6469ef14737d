"""The whole pre-training step, with motion guided masks and with tube masks, and the parts that account for the
difference."""

import functools
from pathlib import Path

import jax
from ml_collections import ConfigDict

from mgmae_jax.bench.masking import COMPARED, VIDEOS, Case, part_cases, place_inputs, with_masks, with_preset
from mgmae_jax.bench.measure import Measurement, Program, compile_programs, measure
from mgmae_jax.bench.official import MGMAE, check_official_model, find_layout, measure_official_step
from mgmae_jax.runtime.mesh import abstract_on, make_mesh, make_on
from mgmae_jax.runtime.rng import stream
from mgmae_jax.train.pretrain import build_pretraining


def pretrain_cases(config: ConfigDict, official: Path | None = None) -> list[Case]:
    """The rows of `mgmae bench pretrain`.

    Args:
      config: see configs/pretrain/common.py; a step works on `train.batch_size` clips.
      official: also measure the PyTorch program of which this folder is a checkout.

    Raises:
      MgmaeError: a field has a value that cannot work; for `official` see `find_layout`.
    """
    motion = {f"step, motion masks, {one}": with_preset(with_masks(config, "motion"), one) for one in COMPARED}
    steps = {"step, tube masks": with_masks(config, "tube")} | motion
    for one in steps.values():
        build_pretraining(one, VIDEOS)
    return [
        functools.partial(measure_steps, steps),
        *(case for preset in COMPARED for case in part_cases(config, preset)),
        *(_official_cases(official, config) if official else ()),
    ]


def _official_cases(folder: Path, config: ConfigDict) -> list[Case]:
    check_official_model(config)
    with_motion = find_layout(folder, flow=False) is MGMAE
    paper = with_preset(with_masks(config, "motion"), "paper")
    kinds = (False, True) if with_motion else (False,)
    return [functools.partial(measure_official_step, folder, paper, motion=motion) for motion in kinds]


def measure_steps(configs: dict[str, ConfigDict], repeats: int) -> list[Measurement]:
    """Measures train steps in turn, jitted, their state donated: the same state goes through all of them.

    Args:
      configs: by the row's name; they differ only in masks and flow.
      repeats: timed steps of each.
    """
    parts = {name: build_pretraining(config, VIDEOS) for name, config in configs.items()}
    config, first = next(iter(configs.values())), next(iter(parts.values()))
    mesh = make_mesh(config.mesh.fsdp)

    def init() -> object:
        return first.init(stream(jax.random.key(config.seed), 0, "init"))

    state = make_on(abstract_on(mesh, init), init)
    clips = config.train.batch_size
    programs = [Program(name, one.step, place_inputs(one.masks, configs[name]), clips) for name, one in parts.items()]
    return measure(compile_programs(programs, state), state, repeats)
