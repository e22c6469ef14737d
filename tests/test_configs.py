import re
from pathlib import Path

import jax
import pytest

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.runtime.rng import stream
from mgmae_jax.train.from_config import MACHINE_FIELDS, build_pretraining
from mgmae_jax.train.optim import scaled_rate

# ml_collections loads config files so.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
ROOT = Path(__file__).parents[1]
CONFIGS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.py"))
VIDEOS = 2000


@pytest.mark.parametrize("path", CONFIGS)
def test_every_config_builds(path: str):
    pretraining = build_pretraining(load_config(str(ROOT / path)), VIDEOS)
    with jax.numpy_dtype_promotion("standard"):  # Flax's LayerNorm promotes bfloat16
        state = jax.eval_shape(lambda: pretraining.init(stream(jax.random.key(0), 0, "init")))
    assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) > 1_000_000


@pytest.mark.parametrize("path", CONFIGS)
def test_commands_in_docstrings_name_this_file_and_its_fields(path: str):
    text = (ROOT / path).read_text(encoding="utf-8").split('"""')[1]
    assert set(re.findall(r"--config[ =](\S+\.py)", text)) <= {path}
    assert path == "configs/common.py" or path in text
    overrides = re.findall(r"(--config\.[\w.]+=[^\s`]+)", text)
    load_config(str(ROOT / path), [override for override in overrides if override != "--config.FIELD=VALUE"])


@pytest.mark.parametrize("name", ["ssv2_vit_b", "k400_vit_b"])
def test_the_papers_rows(name: str):
    config = load_config(str(ROOT / f"configs/pretrain/{name}.py"))
    assert scaled_rate(config.optim.lr, config.train.batch_size) == pytest.approx(1.5e-3)
    assert scaled_rate(config.optim.min_lr, config.train.batch_size) == pytest.approx(1.5e-5)
    assert (config.train.batch_size, config.train.epochs, config.data.views) == (384, 200, 4)
    assert (config.optim.b1, config.optim.b2, config.optim.weight_decay) == (0.9, 0.95, 0.05)
    assert (config.optim.warmup_epochs, config.clip.stride) == (20, {"ssv2_vit_b": 2, "k400_vit_b": 4}[name])
    assert (config.mask.strategy, config.mask.ratio, config.mask.base_frame) == ("motion", 0.9, "middle")


def test_machine_fields_exist():
    config = load_config(str(ROOT / "configs/common.py"))
    for field in MACHINE_FIELDS:
        node = config
        for part in field.split("."):
            assert part in node, field
            node = node[part]
