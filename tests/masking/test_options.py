"""What config.mask accepts, and how it says what it does not."""

import jax
import jaxtyping
import pytest

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.errors import ConfigError
from mgmae_jax.masking.mask_input import MaskInput, MaskOptions
from mgmae_jax.masking.strategies import STRATEGIES, draw_mask, find_strategy
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.train.masks import build_mask_step
from tests.masking.example_input import example_input

GRID = TokenGrid(3, 16, 16, tubelet=1, patch=4)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("ratio", [0.0, 0.99, 1.0])
def test_a_ratio_that_cannot_work_is_named(strategy, ratio):
    with pytest.raises(ConfigError, match=r"config\.mask\.ratio="):
        draw_mask(example_input(0, GRID, MaskOptions(strategy=strategy, ratio=ratio)))


@pytest.mark.parametrize("field", ["base_frame", "init", "warp", "hole_fill", "select", "preset", "prefer"])
def test_an_unknown_choice_is_named_with_those_there_are(field, monkeypatch):
    # Outside of tests nothing checks the annotations before the options do.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ConfigError, match=rf"config\.mask\.{field}='other': give one of \w+, \w+"):
        MaskOptions(**{field: "other"})


@pytest.mark.parametrize("field", ["exposure", "temperature", "loss_weight"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_value_below_0_or_without_end_is_named(field, value):
    with pytest.raises(ConfigError, match=rf"config\.mask\.{field}="):
        MaskOptions(**{field: value})


@pytest.mark.parametrize("strategy", [name for name, strategy in STRATEGIES.items() if strategy.needs_flow])
def test_without_the_flow_that_it_needs_a_strategy_says_so(strategy):
    with pytest.raises(ValueError, match="needs flow"):
        draw_mask(MaskInput(jax.random.key(0), GRID, MaskOptions(strategy=strategy, ratio=0.8)))


@pytest.mark.parametrize("strategy", [name for name, strategy in STRATEGIES.items() if strategy.needs_flow])
@pytest.mark.parametrize("warp", ["backward", "trajectory"])
def test_a_clip_of_one_frame_has_no_flow(strategy, warp):
    options = MaskOptions(strategy=strategy, ratio=0.8, warp=warp, spacing=4)
    with pytest.raises(ConfigError, match=rf"config\.clip\.frames=1: give 2 or more with mask\.strategy={strategy}"):
        find_strategy(TokenGrid(1, 16, 16, tubelet=1, patch=4), options)


@pytest.mark.parametrize("field", ["tubelet", "patch"])
@pytest.mark.parametrize("preset", ["paper", "fast"])
def test_a_token_without_a_size_is_named(field, preset):
    overrides = [f"--config.model.{field}=0", f"--config.mask.preset={preset}"]
    with pytest.raises(ConfigError, match=rf"config\.model\.{field}=0: give 1 or more"):
        build_mask_step(load_config("pretrain/common", overrides))


def test_an_unknown_strategy_is_named_with_those_there_are():
    with pytest.raises(ConfigError, match=r"config\.mask\.strategy='other': give one of motion, tube, random"):
        find_strategy(GRID, MaskOptions(strategy="other", ratio=0.8))


def test_the_released_code_has_no_forward_warping():
    with pytest.raises(ConfigError, match=r"config\.mask\.warp='forward'"):
        find_strategy(GRID, MaskOptions(ratio=0.8, preset="released_code", warp="forward"))


def test_the_flow_that_the_options_need():
    assert MaskOptions().direction == "to_base"
    assert MaskOptions(warp="forward").direction == "from_base"
    assert MaskOptions(preset="released_code").direction == "to_earlier"
