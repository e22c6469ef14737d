"""What a user gets wrong in fine-tuning is told in one message that names it, with status 1 and no traceback."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.cli import main
from mgmae_jax.commands.config_file import load_config
from mgmae_jax.evaluate.classes import write_classes
from mgmae_jax.models.classifier import Classifier
from mgmae_jax.models.variants import Variant
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.runtime.checkpoint import FOLDER, Checkpoints
from mgmae_jax.train.finetune import find_labelled
from tests.integration.labelled import CLASSES, command, write_labelled

Told = Callable[..., str]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labelled")
    write_labelled(root / "train", 12)
    write_labelled(root / "test", 3)
    (root / "nothing").mkdir()
    paths = sorted(str(path) for path in (root / "train").rglob("*.mp4"))
    for name, labels in {
        "numbers": [0, 1, 2],
        "two": [0, 1, 0],
        "beyond": [0, 1, 3],
        "negative": [0, -1, 2],
        "ids": [1, 2, 30000000],
    }.items():
        lines = [f"{path},{labels[i % 3]}" for i, path in enumerate(paths)]
        (root / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (root / "unlabelled.csv").write_text("\n".join(paths) + "\n")
    other = [json.dumps({"path": paths[0], "label": "runn"})]
    (root / "other.jsonl").write_text("\n".join(other) + "\n")
    (root / "empty.csv").write_text("path,label\n")
    return root


@pytest.fixture
def told(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Told]:
    """Runs the command in this process, sees that it fails as it should, returns the message (the last paragraph)."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "xla"))
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    names += ("jax_persistent_cache_min_entry_size_bytes",)
    before = {name: getattr(jax.config, name) for name in names}

    def run(workdir: Path = tmp_path / "run", **changes: object) -> str:
        fields = {"data__path": videos / "train", "eval__path": videos / "test"} | changes
        assert main(command(workdir, **fields)) == 1
        errors = capsys.readouterr().err
        assert "Traceback" not in errors
        message = errors.rpartition("\n\n")[2].lstrip("\n")
        assert message.startswith("mgmae finetune: "), errors
        assert len(message) < 1500
        return message

    yield run
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model__classes", 4, "config.model.classes=4: give the number of classes of the training videos, which is 3"),
        ("model__classes", 2, "config.model.classes=2: give the number of classes of the training videos, which is 3"),
        ("model__classes", 0, "config.model.classes=0: give"),
        ("model__drop_path", 1.0, "config.model.drop_path=1.0: give a number from 0 to below 1"),
        ("model__head_dropout", -0.1, "config.model.head_dropout=-0.1: give a number from 0 to below 1"),
        ("model__attention", "flash", "config.model.attention='flash': give one of auto, xla, cudnn"),
        ("clip__sampling", "sparse", "config.clip.sampling='sparse': give one of uniform, dense"),
        ("augment__rand", "strong", "config.augment.rand='strong': give nothing, or text like rand-m7"),
        ("augment__min_area", 0.0, "config.augment.min_area=0.0: give"),
        ("mix__mixup", -1.0, "config.mix.mixup=-1.0: give 0 or more"),
        ("optim__layer_decay", 0.0, "config.optim.layer_decay=0.0: give a number above 0, up to 1"),
        ("train__ema_decay", 1.0, "config.train.ema_decay=1.0: give a number from 0 to below 1"),
        ("train__batch_size", 3, "config.train.batch_size=3: give a multiple of the number of devices, which is 8"),
        ("train__accumulate", 3, "config.train.accumulate=3: give a divisor of the 8 clips"),
        ("eval__every", -1.0, "config.eval.every=-1.0: give 0 or more"),
        ("eval__path", "", "config.eval.path='': give the videos that accuracy is measured on"),
        ("init", "/nowhere", "/nowhere: no such file or folder"),
    ],
)
def test_a_wrong_value(told: Told, field: str, value: object, message: str):
    assert message in told(**{field: value})


def test_training_labels(told: Told, videos: Path):
    message = told(data__path=videos / "beyond.csv")
    assert f"config.model.classes=3: give 4: labels of {videos}/beyond.csv go to 3" in message
    assert ".mp4: has label -1 in" in told(data__path=videos / "negative.csv")
    assert f".mp4: has label 30000000 in {videos}/ids.csv" in told(data__path=videos / "ids.csv")
    assert "00.mp4: has no label. Every video of" in told(data__path=videos / "unlabelled.csv")


def test_classes_without_videos_are_warned_of(videos: Path, caplog: pytest.LogCaptureFixture):
    fields = {"data.path": videos / "two.csv", "model.classes": 174}
    config = load_config("finetune/motion_shapes", [f"--config.{name}={value}" for name, value in fields.items()])
    with caplog.at_level("WARNING", "absl"):
        found = find_labelled(config)
    assert found.class_names == tuple(str(number) for number in range(174))
    assert sorted(set(found.labels)) == [0, 1]
    assert caplog.messages == [f"172 of 174 classes have no training video in {videos}/two.csv"]


def test_a_stray_video_is_named(told: Told, videos: Path, tmp_path: Path):
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "classes").symlink_to(videos / "train" / CLASSES[0])
    (tmp_path / "mixed" / "zz_intro.mp4").touch()
    message = told(data__path=tmp_path / "mixed")
    assert f"{tmp_path}/mixed: zz_intro.mp4 lies at the top, beside folders of videos" in message


def test_test_labels(told: Told, videos: Path):
    assert f"{videos}/empty.csv: lists no video" in told(eval__path=videos / "empty.csv")
    assert f"{videos}/nothing: holds no video" in told(eval__path=videos / "nothing")
    assert "00.mp4: has no label" in told(eval__path=videos / "unlabelled.csv")
    message = told(eval__path=videos / "other.jsonl")
    assert "has classes that the model was not trained on: runn (did you mean 'run'?)" in message
    assert "has label 3 in" in told(data__path=videos / "numbers.csv", eval__path=videos / "beyond.csv")


def test_a_workdir_of_other_classes(told: Told, tmp_path: Path):
    write_classes(tmp_path, (CLASSES[0], "rest", CLASSES[2]))
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)  # from here on, the workdir belongs to the run
    assert "3 classes, and the training videos now have 3; class 1 is 'rest' there, 'run' now" in told(tmp_path)


def test_a_checkpoint_of_another_size_says_which_tensors_differ(told: Told, tmp_path: Path):
    narrow = Classifier(Variant(96, 1, 3, 384, 48, 3), TokenGrid(4, 32, 32), 3)
    shapes = jax.eval_shape(narrow.init, jax.random.key(0), jnp.zeros((1, 4, 32, 32, 3), jnp.uint8))["params"]
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    with Checkpoints(tmp_path / "other" / FOLDER, every=1, keep=1) as checkpoints:
        checkpoints.save(5, {"params": params}, {})
    message = told(init=tmp_path / "other")
    assert f"{tmp_path}/other/checkpoints/5: is of another model" in message
    tensor = "params/encoder/blocks/block_0/attn/proj/kernel"
    assert f"{tensor} is float32[96, 96], the model needs float32[128, 128]" in message
    # The wrong checkpoint has left nothing that would stand in the way of the right one.
    assert "/nowhere: no such file or folder" in told(init="/nowhere")


def test_an_encoder_pretrained_on_other_clips(told: Told, tmp_path: Path):
    with Checkpoints(tmp_path / "other" / FOLDER, every=1, keep=1) as checkpoints:
        checkpoints.save(5, {"params": {}}, {})
    config = {"clip": {"frames": 16, "size": 32}, "model": {"name": "micro", "positions": "separable"}}
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    message = told(init=tmp_path / "other", model__trained_frames=4)
    assert f"config.model.trained_frames=4: give 16, clip.frames of {tmp_path}/other" in message
    (tmp_path / "other" / "config.json").write_text("{}")
    assert "config.json: cannot be read as the config of a run" in told(init=tmp_path / "other")
