"""What mask.preset fills in, and what it leaves."""

import pytest

from mgmae_jax.configs.pretrain import common
from mgmae_jax.errors import ConfigError
from mgmae_jax.masking.motion import points_of
from mgmae_jax.masking.presets import PRESETS, fill_preset, forget_preset
from mgmae_jax.train.masks import build_mask_step


def chosen(config):
    return config.mask.warp, config.flow.size, config.flow.iters


@pytest.mark.parametrize(
    ("preset", "values"),
    [
        ("paper", ("backward", None, 6)),
        ("fast", ("trajectory", 112, 3)),
        ("released_code", ("backward", None, 6)),
    ],
)
def test_open_fields_get_the_preset_s_values(preset: str, values: tuple):
    config = common.get_config()
    config.mask.preset = preset
    assert chosen(fill_preset(config)) == values
    assert chosen(fill_preset(config)) == values  # again: nothing is left to fill


def test_a_field_that_was_set_keeps_its_value():
    config = common.get_config()
    config.mask.preset, config.flow.iters, config.mask.warp = "fast", 12, "backward"
    assert chosen(fill_preset(config)) == ("backward", 112, 12)


def test_small_clips_are_not_enlarged():
    config = common.get_config()
    config.mask.preset, config.clip.size = "fast", 96
    assert chosen(fill_preset(config)) == ("trajectory", None, 3)


@pytest.mark.parametrize(("patch", "given", "spacing"), [(16, None, 8), (14, None, 7), (8, None, 8), (16, 4, 4)])
def test_points_are_spread_evenly_over_each_patch(patch: int, given: int | None, spacing: int):
    config = common.get_config()
    config.mask.preset, config.model.patch = "fast", patch
    if given is not None:
        config.mask.spacing = given
    masks = build_mask_step(config)
    assert masks.mask.spacing == spacing
    assert points_of(masks.grid, masks.mask) == (224 // spacing, 224 // spacing)


def test_another_preset_after_the_first():
    config = common.get_config()
    for preset in PRESETS:
        config.mask.preset = preset
        filled = chosen(fill_preset(config))
        forget_preset(config)
        assert chosen(config) == (None, None, None)
        assert filled[0] == PRESETS[preset]["mask.warp"]


def test_an_unknown_preset_is_named():
    config = common.get_config()
    config.mask.preset = "slow"
    with pytest.raises(ConfigError, match=r"config\.mask\.preset='slow': give one of paper, fast, released_code"):
        fill_preset(config)
