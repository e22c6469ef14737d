"""The configs build, and the published ones are the published recipes, as their docstrings say too."""

import functools
import json
import re
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict

from mgmae_jax.commands.config_file import COMMON, load_config
from mgmae_jax.commands.config_names import config_names
from mgmae_jax.configs.finetune import mgmae as finetune_mgmae
from mgmae_jax.configs.finetune import videomae as finetune_videomae
from mgmae_jax.configs.finetune import videomae_v2 as finetune_videomae_v2
from mgmae_jax.configs.pretrain import mgmae as pretrain_mgmae
from mgmae_jax.configs.pretrain import videomae as pretrain_videomae
from mgmae_jax.configs.pretrain import videomae_v2 as pretrain_videomae_v2
from mgmae_jax.errors import ConfigError
from mgmae_jax.masking.select import visible_per_tubelet
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.runtime.rng import stream
from mgmae_jax.train.finetune import FINETUNE_MACHINE_FIELDS, build_finetuning
from mgmae_jax.train.optim import scaled_rate
from mgmae_jax.train.pretrain import PRETRAIN_MACHINE_FIELDS, build_pretraining

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"
RECIPES = json.loads((GOLDEN / "recipes.json").read_text())  # read off the official programs
FACTS = json.loads((GOLDEN / "recipe_facts.json").read_text())  # what the official programs computed
FAMILIES = {
    "pretrain": (pretrain_mgmae, pretrain_videomae, pretrain_videomae_v2),
    "finetune": (finetune_mgmae, finetune_videomae, finetune_videomae_v2),
}
BUILD = {"pretrain": build_pretraining, "finetune": build_finetuning}
BUILT = [name for name in config_names() if name == "demo" or name.partition("/")[0] in BUILD]
VIDEOS = 20000
# Of the official models.
PARAMETERS = {("pretrain", "vit_b"): 94_210_944, ("finetune", "vit_b", 174): 86_361_006}


@functools.cache
def parameter_count(name: str) -> int:
    """Of the model that a config builds; nothing is computed."""
    config = load_config(name)
    run = BUILD[config.kind](config, VIDEOS)
    with jax.numpy_dtype_promotion("standard"):  # Flax's LayerNorm promotes bfloat16
        state = jax.eval_shape(lambda: run.init(stream(jax.random.key(0), 0, "init")))
    return sum(leaf.size for leaf in jax.tree.leaves(state.params))


def docstring(name: str) -> str:
    """Of the file that a config is in."""
    return (ROOT / "configs" / f"{config_names()[name][0]}.py").read_text(encoding="utf-8").split('"""')[1]


def written(number: float) -> str:
    """As the docstrings write it: 1.5e-3."""
    mantissa, exponent = f"{number:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def table(text: str) -> dict[str, dict[str, str]]:
    """The table of a family's docstring: for each config its cells by the names of their columns."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    head, _, *rows = lines
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


@pytest.mark.parametrize("name", BUILT)
def test_every_config_builds(name: str):
    assert parameter_count(name) > 500_000


@pytest.mark.parametrize("name", config_names())
def test_a_docstring_names_its_configs_and_their_fields(name: str):
    text = docstring(name)
    assert name in text or name in COMMON.values()
    beside = {other for other, place in config_names().items() if place[0] == config_names()[name][0]}
    assert set(re.findall(r"--config[ =]([\w/]+)", text)) <= beside
    overrides = re.findall(r"(--config\.[\w.]+=[^\s`]+)", text)
    load_config(name, [override for override in overrides if override != "--config.FIELD=VALUE"])


def test_every_published_row_has_a_config():
    for kind, families in FAMILIES.items():
        rows = [row for family in families for row in family.ROWS]
        assert sorted(rows) == sorted(RECIPES[kind])
        assert {f"{kind}/{row}" for row in rows} < set(config_names())
    assert set(RECIPES["finetune"]) == set(RECIPES["pretrain"])  # each encoder has its classifier


@pytest.mark.parametrize("row", RECIPES["pretrain"])
def test_the_published_pretraining(row: str):
    config, recipe, ours = load_config(f"pretrain/{row}"), RECIPES["pretrain"][row], "videomae" not in row
    train, optim, batch = config.train, config.optim, recipe["gpus"] * recipe["per_gpu"]
    assert (train.batch_size, optim.lr, train.epochs) == (batch, recipe["lr"], recipe["epochs"])
    assert (optim.warmup_epochs, optim.min_lr) == (recipe["warmup_epochs"], 1e-5)
    assert (optim.b1, optim.b2, optim.weight_decay) == (0.9, 0.95, 0.05)
    assert (config.clip.frames, config.clip.size, config.clip.stride) == (16, 224, recipe["stride"])
    assert config.data.views == recipe["views"]
    grid = TokenGrid(config.clip.frames, config.clip.size, config.clip.size)
    visible = visible_per_tubelet(config.mask.ratio, grid)
    assert (config.mask.strategy, visible) == (("motion", 19) if ours else ("tube", 20))
    assert [config.mask.decoder, config.mask.decoder_ratio] == recipe.get("decoder_mask", ["all", 0.5])
    assert (config.mask.preset, config.mask.base_frame) == ("fast" if ours else "paper", "middle")
    papers = load_config(f"pretrain/{row}", ["--config.mask.preset=paper"])
    assert (papers.mask.warp, papers.flow.size, papers.flow.iters) == ("backward", None, 6)
    assert config.flow.source == ("raft" if ours else "none")
    assert (config.model.name, config.model.decoder_depth) == (recipe["model"], recipe["decoder_depth"])
    known = PARAMETERS.get(("pretrain", recipe["model"]))
    assert known in (None, parameter_count(f"pretrain/{row}"))


@pytest.mark.parametrize("row", RECIPES["finetune"])
def test_the_published_finetuning(row: str):
    config, recipe, k400 = load_config(f"finetune/{row}"), RECIPES["finetune"][row], "k400" in row
    train, optim, model = config.train, config.optim, config.model
    assert train.batch_size == recipe["gpus"] * recipe["per_gpu"]
    assert (optim.lr, optim.min_lr, train.epochs) == (recipe["lr"], recipe["min_lr"], recipe["epochs"])
    assert (optim.b1, optim.b2, optim.weight_decay, optim.warmup_epochs) == (0.9, 0.999, 0.05, 5)
    assert optim.layer_decay == recipe["layer_decay"]
    assert (config.clip.frames, config.clip.size, config.data.views) == (16, 224, recipe["views"])
    assert dict(config.mix) == {"mixup": 0.8, "cutmix": 1.0, "prob": 1.0, "switch": 0.5, "smoothing": 0.1}
    augment = {"rand": "rand-m7-n4-mstd0.5-inc1", "min_area": 0.08, "flip": k400, "erase": 0.25}
    assert dict(config.augment) == augment
    views_of = (config.clip.sampling, config.eval.sampling, config.eval.clips, config.eval.crops)
    assert views_of == (("dense", "dense", 5, 3) if k400 else ("uniform", "uniform", 2, 3))
    assert config.clip.stride == 4
    assert (model.name, model.classes, model.init_scale) == (recipe["model"], 400 if k400 else 174, 0.001)
    assert (model.drop_path, model.head_dropout) == (recipe["drop_path"], recipe["head_dropout"])
    known = PARAMETERS.get(("finetune", recipe["model"], model.classes))
    assert known in (None, parameter_count(f"finetune/{row}"))
    # What it is fine-tuned from has its encoder.
    assert load_config(f"pretrain/{row}").model.name.removesuffix("_videomae") == recipe["model"]


def test_the_schedule_of_the_official_program_is_that_of_the_papers_config():
    config, official = load_config("pretrain/ssv2_vit_b"), FACTS["cosine_schedule"][0]
    assert scaled_rate(config.optim.lr, config.train.batch_size) == pytest.approx(official["base"])
    assert scaled_rate(config.optim.min_lr, config.train.batch_size) == pytest.approx(official["final"])
    assert (config.train.epochs, config.optim.warmup_epochs) == (official["epochs"], official["warmup_epochs"])
    assert load_config("finetune/ssv2_vit_b").optim.layer_decay == FACTS["layer_decay"]["decay"]


@pytest.mark.parametrize("family", [family for families in FAMILIES.values() for family in families])
def test_the_table_of_a_family_says_what_its_configs_are(family: object):
    text = family.__doc__
    kind = load_config(next(name for name in table(text))).kind
    cells = table(text)
    assert list(cells) == [f"{kind}/{row}" for row in family.ROWS]
    for row in family.ROWS:
        config, recipe, shown = load_config(f"{kind}/{row}"), RECIPES[kind][row], cells[f"{kind}/{row}"]
        views = f" x {config.data.views}" if kind == "pretrain" and config.data.views > 1 else ""
        expected = {
            "--config": f"{kind}/{row}",
            "batch": str(config.train.batch_size),
            "lr": written(scaled_rate(config.optim.lr, config.train.batch_size)),
            "epochs": f"{config.train.epochs:g}{views}",
            "top-1 / top-5": recipe["accuracy"],
            "here": "not run",
        }
        if kind == "pretrain":
            loss = recipe["loss"]
            expected |= {"cost": recipe["cost"], "loss": "" if loss is None else f"{loss:.4f}"}
        assert shown == expected


def test_every_row_of_the_paper_is_told_to_take_the_published_flow():
    assert "--config.flow.weights=raft-small.pth" in pretrain_mgmae.__doc__


@pytest.mark.parametrize("name", config_names())
def test_a_config_says_its_kind(name: str):
    folder = name.partition("/")[0]
    assert load_config(name).kind == ("pretrain" if name == "demo" else folder)


@pytest.mark.parametrize(
    ("kind", "fields"), [("pretrain", PRETRAIN_MACHINE_FIELDS), ("finetune", FINETUNE_MACHINE_FIELDS)]
)
def test_machine_fields_exist(kind: str, fields: tuple[str, ...]):
    config = load_config(COMMON[kind])
    for field in fields:
        node: ConfigDict = config
        for part in field.split("."):
            assert part in node, field
            node = node[part]


def test_an_unknown_optimiser_or_position_table_is_named():
    with pytest.raises(ConfigError, match=r"config.optim.name='sgd': give one of adamw, muon"):
        build_pretraining(load_config("demo", ["--config.optim.name=sgd"]), 64)
    with pytest.raises(ConfigError, match=r"config.model.positions='learned': give one of flat, separable"):
        build_pretraining(load_config("demo", ["--config.model.positions=learned"]), 64)
