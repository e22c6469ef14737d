from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.errors import ConfigError
from mgmae_jax.evaluate.run import abstract_params
from mgmae_jax.models import mae
from mgmae_jax.models.classifier import Bridge, Classifier, build_classifier
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.runtime.checkpoint import FOLDER, Checkpoints, restore_params
from mgmae_jax.runtime.mesh import make_mesh
from mgmae_jax.train.finetune import Finetuning
from mgmae_jax.train.mixing import MixOptions
from mgmae_jax.train.pretrained import check_heads, check_trained_clip, load_pretrained
from tests.train.finetuned import SMALL, finetuned_run
from tests.train.tiny import VARIANT, tiny_pretraining, tiny_state


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a pre-training run of clips of 4 frames of 32 pixels."""
    workdir = tmp_path_factory.mktemp("pretrained")
    with Checkpoints(workdir / FOLDER, every=1, keep=1) as checkpoints:
        checkpoints.save(3, tiny_state(tiny_pretraining(strategy="tube")), {})
    (workdir / "config.json").write_text('{"clip": {"frames": 4, "size": 32}, "model": {}}')
    return workdir


def finetuning_config(**model: int | str | None) -> ConfigDict:
    model = {"trained_frames": None, "trained_size": None} | model
    return ConfigDict({"clip": {"frames": 8, "size": 32}, "model": model})


def test_the_encoder_of_a_pretraining_is_the_classifiers(run: Path):
    pretraining = tiny_pretraining(strategy="tube")
    classifier = Classifier(VARIANT, pretraining.grid, 5)
    clips = jnp.zeros((1, 4, 32, 32, 3), jnp.uint8)
    found = load_pretrained(run, on_one_device(jax.eval_shape(classifier.init, jax.random.key(0), clips)["params"]))
    want = dict(jax.device_get(tiny_state(pretraining).params["encoder"]))
    want["blocks"] = {name: block for name, block in want["blocks"].items() if name != "norm"}
    jax.tree.map(np.testing.assert_array_equal, found, {"encoder": want})


def on_one_device(shapes: object) -> object:
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=one), shapes)


def test_a_classifier_that_predicts_cubes_begins_with_the_decoder_too(run: Path):
    pretraining = tiny_pretraining(strategy="tube")
    model = Classifier(VARIANT, pretraining.grid, 5, hidden=2, bridge=Bridge(1, 8, 2), decoder_depth=1)
    mix, schedule = MixOptions(mixup=0, cutmix=0), pretraining.schedule
    state = jax.eval_shape(Finetuning(model, mix, pretraining.optimiser, schedule).init, jax.random.key(0))
    found = load_pretrained(run, on_one_device(state.params))
    want = jax.device_get(tiny_state(pretraining).params)
    jax.tree.map(np.testing.assert_array_equal, found, {name: want[name] for name in ("encoder", "decoder")})


def test_the_decoder_of_another_clip_has_the_table_of_the_trained_one(monkeypatch: pytest.MonkeyPatch):
    """Interpolated, as the encoder's: a new table would move every token but the first."""
    asked, real = [], mae.grid_positions
    monkeypatch.setattr(mae, "grid_positions", lambda *call: asked.append(call) or real(*call))
    trained, grid = tiny_pretraining(strategy="tube").grid, TokenGrid(8, 64, 64)
    model = Classifier(VARIANT, grid, 5, trained_grid=trained, hidden=2, bridge=Bridge(1, 8, 2), decoder_depth=1)
    mix, pretraining = MixOptions(mixup=0, cutmix=0), tiny_pretraining(strategy="tube")
    jax.eval_shape(Finetuning(model, mix, pretraining.optimiser, pretraining.schedule).init, jax.random.key(0))
    assert {call[:1] + call[2:3] for call in asked} == {(grid, trained)}


def test_the_average_of_a_fine_tuned_model_is_what_another_one_begins_with(tmp_path: Path):
    finetuned_run(tmp_path / "averaged", ("a", "b"), ema=True)
    finetuned_run(tmp_path / "raw", ("a", "b"), ema=True, eval__weights="raw")
    config = load_config("finetune/common", [f"--config.{name}={value}" for name, value in SMALL.items()])
    with config.unlocked():
        config.model.classes = 2
    shapes = {"encoder": abstract_params(build_classifier(config), make_mesh())["encoder"]}
    for name, tree in (("averaged", "ema"), ("raw", "params")):
        want = restore_params(tmp_path / name, shapes, tree)
        jax.tree.map(np.testing.assert_array_equal, load_pretrained(tmp_path / name, shapes), want)


def test_other_heads_are_refused(tmp_path: Path):
    finetuned_run(tmp_path, ("a", "b"))
    config = load_config("finetune/motion_shapes", ["--config.model.name=192/4/6/768/96/3"])
    with pytest.raises(ConfigError, match=r"model\.name='192/4/6/768/96/3': give tiny, with the heads of "):
        check_heads(tmp_path, config, decoder=False)
    for name in ("192/4/3/768/96/6", "192/4/3/768/48/3", "vit_s"):  # of another size: its tensors tell
        config.model.name = name
        check_heads(tmp_path, config, decoder=False)
    config.model.name = "192/4/3/768/96/6"
    with pytest.raises(ConfigError, match=r"give tiny"):
        check_heads(tmp_path, config, decoder=True)


def test_clips_of_another_length_must_be_known(run: Path):
    with pytest.raises(ConfigError, match=rf"config\.model\.trained_frames=None: give 4, clip\.frames of {run}"):
        check_trained_clip(run, finetuning_config())
    check_trained_clip(run, finetuning_config(trained_frames=4))
    with pytest.raises(ConfigError, match=r"config\.model\.trained_size=64: give 32"):
        check_trained_clip(run, finetuning_config(trained_frames=4, trained_size=64))


def test_another_position_table_is_refused(tmp_path: Path):
    (tmp_path / FOLDER / "7" / "state").mkdir(parents=True)
    text = '{"clip": {"frames": 8, "size": 32}, "model": {"positions": "separable"}}'
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.model\.positions='flat': give separable, as in"):
        check_trained_clip(tmp_path, finetuning_config(positions="flat"))
    check_trained_clip(tmp_path, finetuning_config(positions="separable"))


def test_a_finetuned_encoder_has_the_positions_of_its_pretraining(tmp_path: Path):
    (tmp_path / FOLDER / "7" / "state").mkdir(parents=True)
    text = '{"clip": {"frames": 32, "size": 32}, "model": {"trained_frames": 16, "trained_size": null}}'
    (tmp_path / "config.json").write_text(text)
    check_trained_clip(tmp_path, finetuning_config(trained_frames=16))
    with pytest.raises(ConfigError, match=r"trained_frames=32: give 16"):
        check_trained_clip(tmp_path, finetuning_config(trained_frames=32))


def test_without_a_config_nothing_is_checked(tmp_path: Path):
    (tmp_path / "state").mkdir()
    check_trained_clip(tmp_path, finetuning_config())
