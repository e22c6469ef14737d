import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh
from ml_collections import ConfigDict

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.errors import ConfigError, MgmaeError
from mgmae_jax.plan.memory import bytes_on_chip, memory_of_arguments
from mgmae_jax.plan.work import batch_shapes, build_trainer, build_work, count_videos, place
from mgmae_jax.runtime.mesh import AXES, make_mesh, tree_shardings


@pytest.mark.parametrize(
    ("name", "videos"),
    [("pretrain/ssv2_vit_b", 168_913), ("pretrain/videomae_k400_vit_l_1600", 240_000), ("demo", 2048)],
)
def test_a_config_implies_how_many_videos_there_are(name: str, videos: int):
    config = load_config(name)
    assert count_videos(config, name, None) == videos
    assert count_videos(config, name, 7) == 7


def test_a_list_of_unknown_length_asks_for_its_number_of_videos():
    config = load_config("pretrain/folder", ["--config.data.path=mine.csv"])
    with pytest.raises(MgmaeError, match=r"give --videos, how many videos config.data.path='mine.csv' has"):
        count_videos(config, "pretrain/folder", None)


def test_a_step_is_counted_once_for_each_part_of_a_batch(small: Callable[..., ConfigDict]):
    whole, parts = (build_work(small(f"train.accumulate={parts}"), 1000) for parts in (1, 4))
    assert parts.flops == whole.flops > 0
    assert (whole.steps, whole.clips, whole.batch_size, whole.flow_flops) == (6250, 16, 16, 0)


def test_recomputation_adds_operations(small: Callable[..., ConfigDict]):
    less, more = (build_work(small(f"model.remat={remat}"), 1000).flops for remat in (False, True))
    assert 1.1 < more / less < 1.5


def test_raft_is_counted_and_its_weights_are_shapes(small: Callable[..., ConfigDict]):
    work = build_work(small("mask.strategy=motion", "flow.source=raft", "clip.size=64"), 1000)
    assert 0 < work.flow_flops < work.flops
    assert sum(leaf.size for leaf in jax.tree.leaves(work.frozen)) == 990_162


def test_raft_on_whole_frames_runs_once_for_all_views(small: Callable[..., ConfigDict]):
    masks = ("mask.strategy=motion", "flow.source=raft", "clip.size=64", "data.views=2")
    each, once = (build_work(small(*masks, f"flow.whole_frame={whole}"), 1000).flow_flops for whole in (False, True))
    assert 0.4 < once / each < 0.6


@pytest.mark.parametrize(("base", "shape"), [("middle", (32, 3)), ("random", (32, 2, 3))])
def test_stored_flow_is_a_part_of_the_batch(small: Callable[..., ConfigDict], base: str, shape: tuple[int, ...]):
    config = small("mask.strategy=motion", "flow.source=stored", f"mask.base_frame={base}", "data.views=2")
    shapes = batch_shapes(config, build_trainer(config, 1000))
    assert (shapes["clip"].shape, shapes["clip"].dtype) == ((32, 4, 32, 32, 3), jnp.uint8)
    assert (shapes["flow"].shape, shapes["flow"].dtype) == ((*shape, 34, 34, 2), jnp.uint8)
    assert (shapes["flow_span"].shape, shapes["flow_place"].shape) == ((*shape, 2, 2), (32, 2, 2))
    config.flow.source = "dis"
    shapes = batch_shapes(config, build_trainer(config, 1000))
    assert (shapes["flow"].shape, shapes["flow"].dtype) == ((*shape, 32, 32, 2), jnp.float32)


def test_fine_tuning_is_planned_with_its_labels_and_average():
    fields = ["model.name=tiny", "clip.frames=4", "clip.size=32", "model.classes=5", "train.batch_size=8"]
    fields += ["train.ema_decay=0.9"]
    config = load_config("finetune/common", [f"--config.{field}" for field in fields])
    work = build_work(config, 1000)
    assert work.batch["label"].shape == (work.clips,)
    memory = memory_of_arguments(place(work, make_mesh(1)))
    assert memory.average == memory.parameters > 0


@pytest.mark.parametrize("name", ["probe/common", "flow/raft_small"])
def test_other_kinds_are_refused(name: str):
    with pytest.raises(ConfigError, match=r"config.kind='\w+': give a config of kind 'pretrain' or 'finetune'"):
        build_trainer(load_config(name), 1000)


@pytest.mark.parametrize("fsdp", [1, 4, 8])
def test_a_chip_holds_what_the_shardings_leave_it(small: Callable[..., ConfigDict], fsdp: int):
    work = build_work(small(), 1000)
    mesh = make_mesh(fsdp)
    memory = memory_of_arguments(place(work, mesh))
    params = jax.eval_shape(work.trainer.init, jax.random.key(0)).params
    sizes = jax.tree.map(lambda leaf, by: math.prod(by.shard_shape(leaf.shape)), params, tree_shardings(mesh, params))
    assert memory.parameters == 4 * sum(jax.tree.leaves(sizes))
    assert memory.optimiser == 2 * memory.parameters + 4  # two moments and Adam's counter
    assert memory.batch == 2 * 4 * 32 * 32 * 3
    assert (memory.average, memory.frozen, memory.temporaries) == (0, 0, None)
    abstract = AbstractMesh((8 // fsdp, fsdp), ("data", "fsdp"))
    assert memory_of_arguments(place(work, abstract)) == memory


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_a_gpu_s_attention_is_planned_where_there_is_no_gpu(small: Callable[..., ConfigDict], kind: str):
    mesh, found = AbstractMesh((8, 1), AXES), {}
    for attention in ("xla", "cudnn"):
        config = small(f"model.attention={attention}")
        if kind == "finetune":
            fields = ["model.name=tiny", "clip.frames=4", "clip.size=32", f"model.attention={attention}"]
            config = load_config("finetune/common", [f"--config.{field}" for field in fields])
        work = build_work(config, 1000)
        found[attention] = place(work, mesh), work.flops
        assert work.trainer.model.implementation == attention
    assert found["cudnn"] == found["xla"]


@pytest.mark.parametrize(("name", "patch", "millions"), [("vit_h", 16, 646), ("vit_g", 14, 1026)])
def test_fsdp_leaves_a_chip_its_share_of_a_large_model_and_its_optimiser(name: str, patch: int, millions: int):
    fields = [f"model.name={name}", f"model.patch={patch}", "model.remat=True", "train.accumulate=4"]
    trainer = build_trainer(load_config("pretrain/common", [f"--config.{field}" for field in fields]), 1000)

    state = jax.eval_shape(trainer.init, jax.random.key(0))

    def on_chip(fsdp: int, tree: Any) -> int:
        shardings = tree_shardings(AbstractMesh((64 // fsdp, fsdp), AXES), tree)
        return bytes_on_chip(
            jax.tree.map(lambda leaf, by: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=by), tree, shardings)
        )

    assert round(on_chip(1, state.params) / 4e6) == millions
    for tree in (state.params, state.opt_state):
        whole = on_chip(1, tree)
        for fsdp in (8, 64):
            # Biases and norms, less than a thousandth, stay whole.
            assert whole / fsdp <= on_chip(fsdp, tree) < whole / fsdp + whole / 1000
