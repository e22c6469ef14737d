"""With parameters split over devices, the compiled step gathers parameters and never activations."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.models.variants import VARIANTS, Variant
from mgmae_jax.ops.placement import on_mesh
from mgmae_jax.runtime.mesh import abstract_on, batch_sharding, make_mesh, replicated
from mgmae_jax.train.finetune import build_finetuning
from mgmae_jax.train.pretrain import build_pretraining

COLLECTIVE = re.compile(
    r"= \(?\w+\[([\d,]*)\][^=\n]*? (all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute)(?:-start)?\("
)
SIZES = ["--config.model.name=small", "--config.clip.frames=4", "--config.clip.size=64"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variant whose matrices are just large enough to be split."""
    monkeypatch.setitem(VARIANTS, "small", Variant(256, 2, 4, 1024, 256, 4))


def pretraining(clips: int) -> tuple[Any, dict]:
    fields = ["--config.model.decoder_depth=1", "--config.mask.strategy=tube", "--config.mask.ratio=0.75"]
    config = load_config("pretrain/common", [*SIZES, *fields, f"--config.train.batch_size={clips}"])
    return build_pretraining(config, 100), {"clip": ((4, 64, 64, 3), jnp.uint8)}


def finetuning(clips: int) -> tuple[Any, dict]:
    fields = ["--config.model.classes=10", f"--config.train.batch_size={clips}", "--config.data.views=1"]
    config = load_config("finetune/common", [*SIZES, *fields])
    return build_finetuning(config, 100), {"clip": ((4, 64, 64, 3), jnp.uint8), "label": ((), jnp.int32)}


@pytest.mark.parametrize("build", [pretraining, finetuning])
@pytest.mark.parametrize(("fsdp", "each"), [(8, 2), (4, 1), (8, 8)])
def test_what_is_gathered_is_parameters(build: Any, fsdp: int, each: int):
    trainer, fields = build(8 * each)
    mesh = make_mesh(fsdp)
    state = abstract_on(mesh, trainer.init, jax.random.key(0))
    batch = {
        name: jax.ShapeDtypeStruct((8 * each, *shape), dtype, sharding=batch_sharding(mesh))
        for name, (shape, dtype) in fields.items()
    }
    key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype, sharding=replicated(mesh))
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    step = jax.jit(on_mesh(trainer.step, mesh), donate_argnums=0, out_shardings=(shardings, replicated(mesh)))
    program = step.lower(state, {}, batch, key).compile().as_text()
    found = [(kind, tuple(int(n) for n in shape.split(",") if n)) for shape, kind in COLLECTIVE.findall(program)]
    parameters = {leaf.shape for leaf in jax.tree.leaves(state)}
    parts = parameters | {shape[::-1] for shape in parameters} | {()}
    gathered = {shape for kind, shape in found if kind == "all-gather" and len(shape) > 1}
    assert gathered
    assert gathered <= parts
    reduced = {shape for kind, shape in found if kind in ("all-reduce", "reduce-scatter") and len(shape) > 1}
    assert reduced <= parts, reduced - parts
