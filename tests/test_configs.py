import functools
import re
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.errors import ConfigError
from mgmae_jax.runtime.rng import stream
from mgmae_jax.train.finetune import FINETUNE_MACHINE_FIELDS, build_finetuning
from mgmae_jax.train.optim import scaled_rate
from mgmae_jax.train.pretrain import PRETRAIN_MACHINE_FIELDS, build_pretraining

# ml_collections loads config files so.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
ROOT = Path(__file__).parents[1]
CONFIGS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.py"))
PRETRAINING = [path for path in CONFIGS if "/pretrain/" in path or path in ("configs/common.py", "configs/demo.py")]
FINETUNING = [path for path in CONFIGS if "/finetune/" in path]
COMMON = ("configs/common.py", "configs/finetune/common.py")
VIDEOS = 20000

# B, lr for 256, lr, warm-up epochs, epochs, stride, views, size, decoder blocks, parameters.
PRETRAINING_ROWS = {
    "ssv2_vit_b": (384, 1e-3, 1.5e-3, 20, 200, 2, 4, "vit_b", 4, 94_210_944),
    "ssv2_vit_b_2400": (384, 1e-3, 1.5e-3, 20, 600, 2, 4, "vit_b", 4, 94_210_944),
    "k400_vit_b": (384, 1e-3, 1.5e-3, 20, 200, 4, 4, "vit_b", 4, 94_210_944),
    "k400_vit_b_1600": (384, 1e-3, 1.5e-3, 20, 400, 4, 4, "vit_b", 4, 94_210_944),
    "videomae_k400_vit_s_1600": (1024, 1.5e-4, 6e-4, 40, 1600, 4, 1, "vit_s", 4, None),
    "videomae_ssv2_vit_s_2400": (1024, 1.5e-4, 6e-4, 40, 2400, 2, 1, "vit_s", 4, None),
    "videomae_k400_vit_b_800": (2048, 1.5e-4, 1.2e-3, 40, 800, 4, 1, "vit_b", 4, 94_210_944),
    "videomae_k400_vit_b_1600": (2048, 1.5e-4, 1.2e-3, 40, 1600, 4, 1, "vit_b", 4, 94_210_944),
    "videomae_ssv2_vit_b_800": (2048, 1.5e-4, 1.2e-3, 40, 800, 2, 1, "vit_b", 4, 94_210_944),
    "videomae_ssv2_vit_b_2400": (2048, 1.5e-4, 1.2e-3, 40, 2400, 2, 1, "vit_b", 4, 94_210_944),
    "videomae_k400_vit_l_1600": (512, 1.5e-4, 3e-4, 40, 1600, 4, 1, "vit_l", 12, None),
    "videomae_k400_vit_h_1600": (1024, 1.5e-4, 6e-4, 40, 1600, 4, 1, "vit_h_videomae", 12, None),
}
# B, lr for 256, lr, epochs, views, layer decay, size, parameters, accuracy.
FINETUNING_ROWS = {
    "k400_vit_b": (512, 7e-4, 1.4e-3, 90, 2, 0.75, "vit_b", None, "81.2 / 94.9"),
    "k400_vit_b_1600": (512, 7e-4, 1.4e-3, 90, 2, 0.75, "vit_b", None, "81.8 / 95.0"),
    "ssv2_vit_b": (256, 2e-3, 2e-3, 25, 2, 0.65, "vit_b", 86_361_006, "71.0 / 93.1"),
    "ssv2_vit_b_2400": (256, 2e-3, 2e-3, 25, 2, 0.65, "vit_b", 86_361_006, "72.3 / 93.5"),
    "videomae_k400_vit_s_1600": (384, 5e-4, 7.5e-4, 150, 2, 0.75, "vit_s", None, "79.0"),
    "videomae_k400_vit_b_800": (512, 1e-3, 2e-3, 100, 1, 0.75, "vit_b", None, "80.0"),
    "videomae_k400_vit_b_1600": (384, 5e-4, 7.5e-4, 75, 2, 0.75, "vit_b", None, "81.5"),
    "videomae_k400_vit_l_1600": (128, 2e-3, 1e-3, 35, 2, 0.75, "vit_l", None, "85.2"),
    "videomae_k400_vit_h_1600": (512, 1e-3, 2e-3, 50, 2, 0.75, "vit_h", None, "86.6"),
    "videomae_ssv2_vit_s_2400": (384, 1e-3, 1.5e-3, 40, 2, 0.7, "vit_s", None, "66.8"),
    "videomae_ssv2_vit_b_800": (512, 5e-4, 1e-3, 50, 1, 0.75, "vit_b", 86_361_006, "69.6"),
    "videomae_ssv2_vit_b_2400": (384, 5e-4, 7.5e-4, 30, 2, 0.75, "vit_b", 86_361_006, "70.8"),
}


def load(path: str) -> ConfigDict:
    return load_config(str(ROOT / path))


@functools.cache
def parameter_count(path: str) -> int:
    """Of the model that a config builds; nothing is computed."""
    run = (build_finetuning if path in FINETUNING else build_pretraining)(load(path), VIDEOS)
    with jax.numpy_dtype_promotion("standard"):  # Flax's LayerNorm promotes bfloat16
        state = jax.eval_shape(lambda: run.init(stream(jax.random.key(0), 0, "init")))
    return sum(leaf.size for leaf in jax.tree.leaves(state.params))


def docstring(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8").split('"""')[1]


def written(number: float) -> str:
    """As the docstrings write it: 1.5e-3."""
    mantissa, exponent = f"{number:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


@pytest.mark.parametrize("path", PRETRAINING + FINETUNING)
def test_every_config_builds(path: str):
    assert parameter_count(path) > 500_000


@pytest.mark.parametrize("path", CONFIGS)
def test_commands_in_docstrings_name_this_file_and_its_fields(path: str):
    text = docstring(path)
    assert set(re.findall(r"--config[ =](\S+\.py)", text)) <= {path}
    assert path in COMMON or path in text
    overrides = re.findall(r"(--config\.[\w.]+=[^\s`]+)", text)
    load_config(str(ROOT / path), [override for override in overrides if override != "--config.FIELD=VALUE"])


def test_every_published_row_has_a_config():
    shapes = {f"configs/{folder}/motion_shapes.py" for folder in ("pretrain", "finetune")}
    others = {"configs/pretrain/folder.py", "configs/demo.py", *shapes, *COMMON}
    rows = {f"configs/pretrain/{name}.py" for name in PRETRAINING_ROWS}
    rows |= {f"configs/finetune/{name}.py" for name in FINETUNING_ROWS}
    assert {*PRETRAINING, *FINETUNING} == rows | others
    assert set(FINETUNING_ROWS) == set(PRETRAINING_ROWS)  # each encoder has its classifier


@pytest.mark.parametrize("name", PRETRAINING_ROWS)
def test_the_published_pretraining(name: str):
    path = f"configs/pretrain/{name}.py"
    config, ours = load(path), "videomae" not in name
    batch, lr, scaled, warmup, epochs, stride, views, size, decoder_depth, parameters = PRETRAINING_ROWS[name]
    train, optim = config.train, config.optim
    assert (train.batch_size, optim.lr, train.epochs, optim.warmup_epochs) == (batch, lr, epochs, warmup)
    assert scaled_rate(optim.lr, batch) == pytest.approx(scaled)
    assert scaled_rate(optim.min_lr, batch) == pytest.approx(1e-5 * batch / 256)
    assert (optim.b1, optim.b2, optim.weight_decay) == (0.9, 0.95, 0.05)
    assert (config.clip.frames, config.clip.size, config.clip.stride, config.data.views) == (16, 224, stride, views)
    assert (config.mask.strategy, config.mask.ratio) == ("motion" if ours else "tube", 0.9)
    assert (config.mask.preset, config.mask.base_frame, config.flow.iters) == ("paper", "middle", 6)
    assert (config.model.name, config.model.decoder_depth) == (size, decoder_depth)
    assert parameters in (None, parameter_count(path))
    assert f"atch {batch}" in docstring(path)
    assert f"lr {written(lr)} for 256: {written(scaled)}" in docstring(path)
    assert FINETUNING_ROWS[name][-1].split()[0] in docstring(path).split("\n")[0]


@pytest.mark.parametrize("name", FINETUNING_ROWS)
def test_the_published_finetuning(name: str):
    path = f"configs/finetune/{name}.py"
    config, k400, huge = load(path), "k400" in name, "vit_h" in name
    batch, lr, scaled, epochs, views, layer_decay, size, parameters, accuracy = FINETUNING_ROWS[name]
    train, optim, model = config.train, config.optim, config.model
    assert (train.batch_size, optim.lr, train.epochs, optim.warmup_epochs) == (batch, lr, epochs, 5)
    assert scaled_rate(optim.lr, batch) == pytest.approx(scaled)
    assert scaled_rate(optim.min_lr, batch) == pytest.approx((1e-5 if huge else 1e-6) * batch / 256)
    assert (optim.b1, optim.b2, optim.weight_decay, optim.layer_decay) == (0.9, 0.999, 0.05, layer_decay)
    assert (config.clip.frames, config.clip.size, config.data.views) == (16, 224, views)
    assert dict(config.mix) == {"mixup": 0.8, "cutmix": 1.0, "prob": 1.0, "switch": 0.5, "smoothing": 0.1}
    recipe = {"rand": "rand-m7-n4-mstd0.5-inc1", "min_area": 0.08, "flip": k400, "erase": 0.25}
    assert dict(config.augment) == recipe
    views_of = (config.clip.sampling, config.eval.sampling, config.eval.clips, config.eval.crops)
    assert views_of == (("dense", "dense", 5, 3) if k400 else ("uniform", "uniform", 2, 3))
    assert config.clip.stride == 4
    assert (model.name, model.classes, model.init_scale) == (size, 400 if k400 else 174, 0.001)
    assert (model.drop_path, model.head_dropout) == ((0.2, 0.5) if huge else (0.1, 0.0))
    assert parameters in (None, parameter_count(path))
    text = " ".join(docstring(path).split())
    assert f"configs/pretrain/{name}. Batch {batch}" in text
    assert f"lr {written(lr)} for 256: {written(scaled)}" in text
    assert f": {accuracy}" in docstring(path).split("\n")[0]
    # What it is fine-tuned from has its encoder.
    pretrained = load(f"configs/pretrain/{name}.py").model.name
    assert pretrained.removesuffix("_videomae") == size


@pytest.mark.parametrize(
    ("path", "fields"), list(zip(COMMON, (PRETRAIN_MACHINE_FIELDS, FINETUNE_MACHINE_FIELDS), strict=True))
)
def test_machine_fields_exist(path: str, fields: tuple[str, ...]):
    config = load(path)
    for field in fields:
        node = config
        for part in field.split("."):
            assert part in node, field
            node = node[part]


def test_an_unknown_optimiser_or_position_table_is_named():
    with pytest.raises(ConfigError, match=r"config.optim.name='sgd': give one of adamw, muon"):
        build_pretraining(load_config(str(ROOT / "configs/demo.py"), ["--config.optim.name=sgd"]), 64)
    with pytest.raises(ConfigError, match=r"config.model.positions='learned': give one of flat, separable"):
        build_pretraining(load_config(str(ROOT / "configs/demo.py"), ["--config.model.positions=learned"]), 64)
