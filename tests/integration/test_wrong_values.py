"""What a user gets wrong is told in one message that names it, with status 1 and no traceback."""

from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from mgmae_jax.cli import main
from mgmae_jax.commands.config_file import load_config
from mgmae_jax.flow.raft import init_params
from mgmae_jax.interop.flow_weights import save_flow_weights
from mgmae_jax.runtime.run_info import write_run_info
from tests.integration.runs import command

Told = Callable[..., str]


@pytest.fixture
def own_compile_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands in this process keep compiled programs in a folder of the test's own, and leave JAX as it was."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "xla"))
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    names += ("jax_persistent_cache_min_entry_size_bytes",)
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def told(tmp_path: Path, twelve_videos: Path, own_compile_cache: None, capsys: pytest.CaptureFixture) -> Told:
    """Runs the command in this process, checks that it fails as it should, returns the message (the last paragraph)."""

    def run(workdir: Path = tmp_path / "run", **changes: object) -> str:
        assert main(command(workdir, **({"data__path": twelve_videos} | changes))) == 1
        errors = capsys.readouterr().err
        assert "Traceback" not in errors
        message = errors.rpartition("\n\n")[2].lstrip("\n")
        assert message.startswith("mgmae pretrain: "), errors
        assert len(message) < 1500
        return message

    return run


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("data__path", "/nowhere", "config.data.path='/nowhere': give a folder of videos"),
        ("mask__ratio", 0.0, "config.mask.ratio=0.0: give from 0.0625 to 0.9375"),
        ("mask__ratio", 1.0, "config.mask.ratio=1.0: give from"),
        ("mask__ratio", 0.999, "config.mask.ratio=0.999: give from"),
        ("mask__ratio", "nan", "config.mask.ratio=nan: give from"),
        ("clip__frames", 15, "config.clip.frames=15: give a multiple of model.tubelet=2"),
        ("clip__frames", 0, "config.clip.frames=0: give a multiple of model.tubelet=2"),
        ("clip__size", 100, "config.clip.size=100: give a multiple of model.patch=8"),
        ("clip__stride", 0, "config.clip.stride=0: give"),
        ("model__name", "vit_z", "config.model.name='vit_z': give one of micro"),
        ("model__dtype", "float16", "config.model.dtype='float16': give one of float32, bfloat16"),
        ("flow__source", "none", "config.flow.source='none': give raft, tvl1, dis, stored or codec"),
        ("train__batch_size", 12, "config.train.batch_size=12: give a multiple of the number of devices, which is 8"),
        ("train__batch_size", 0, "config.train.batch_size=0: give"),
        ("train__accumulate", 3, "config.train.accumulate=3: give a divisor of the 8 clips"),
        ("train__profile_steps", "5:3", "config.train.profile_steps='5:3': give A:B, two steps with 0 < A < B"),
        ("train__epochs", 0.0, "config.train.epochs=0.0: give a number above 0"),
        ("optim__warmup_epochs", 8.0, "config.optim.warmup_epochs=8.0: give"),
        ("optim__lr", "inf", "config.optim.lr=inf: give"),
        ("optim__lr", "nan", "config.optim.lr=nan: give"),
        ("optim__lr", -0.1, "config.optim.lr=-0.1: give"),
        ("data__workers", -1, "config.data.workers=-1: give 0 or more"),
        ("checkpoint__every", 0, "config.checkpoint.every=0: give"),
        ("checkpoint__keep", 0, "config.checkpoint.keep=0: give"),
        ("preview__every", -1, "config.preview.every=-1: give"),
        ("seed", -1, "config.seed=-1: give"),
        ("mesh__fsdp", 3, "config.mesh.fsdp=3: give a divisor of the number of devices, which is 8"),
        ("train__epocs", 1, '--config.train.epocs: the config has no field "epocs"; did you mean "epochs"?'),
        ("mask__ratio", "high", "config.mask.ratio"),
    ],
)
def test_a_wrong_field_is_named_before_anything_starts(
    told: Told, tmp_path: Path, field: str, value: object, message: str
):
    assert message in told(tmp_path / "run", **{field: value})
    assert not (tmp_path / "run").exists()


def test_a_missing_config_file(told: Told):
    message = told(config="configs/dmo.py")
    assert "configs/dmo.py: no such config or Python file; did you mean demo?" in message


def test_an_argument_that_is_no_field(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main([*command(tmp_path), "--mask.ratio=0.9"]) == 1
    assert "'--mask.ratio=0.9': a field of the config is changed by --config.FIELD=VALUE" in capsys.readouterr().err


def test_an_empty_folder_of_videos(told: Told, tmp_path: Path):
    (tmp_path / "videos").mkdir()
    assert f"{tmp_path / 'videos'}: holds no video" in told(data__path=tmp_path / "videos")


def test_a_folder_whose_every_video_is_broken(told: Told, tmp_path: Path):
    for i in range(3):
        (tmp_path / f"{i}.mp4").write_bytes(b"")
    message = told(data__path=tmp_path, data__max_bad_fraction=1.0, train__epochs=40)
    assert "videos in a row cannot be read" in message
    assert str(tmp_path / "0.mp4") in message


def test_a_file_where_the_workdir_should_be(told: Told, tmp_path: Path):
    (tmp_path / "run").write_text("mine")
    assert f"{tmp_path / 'run'}" in told()
    assert (tmp_path / "run").read_text() == "mine"


def test_a_workdir_of_another_config(told: Told, tmp_path: Path):
    config = load_config("demo", command(tmp_path)[5:])
    write_run_info(tmp_path / "run", config, ["mgmae"])
    (tmp_path / "run" / "checkpoints" / "3").mkdir(parents=True)  # from here on, the workdir belongs to the run
    message = told(tmp_path / "run", mask__ratio=0.5)
    assert f"{tmp_path / 'run'} holds a run of another config" in message
    assert "mask.ratio: 0.75 there, 0.5 now" in message


def damaged_weights(folder: Path, damage: str) -> Path:
    path = folder / "weights.safetensors"
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(init_params, jax.random.key(0))
    save_flow_weights(path, jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes))
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:100_000])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "of another shape":
        tensors = safetensors.numpy.load_file(path)
        tensors["feature_encoder.out.kernel"] = np.zeros((1, 1, 96, 64), np.float32)
        safetensors.numpy.save_file(tensors, path)
    elif damage == "missing":
        path.unlink()
    return path


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", "no such file"),
        ("empty", "is neither PyTorch's nor safetensors"),
        ("truncated", "is neither PyTorch's nor safetensors"),
        ("of another shape", "is not RAFT-small: of another shape or type feature_encoder.out.kernel"),
    ],
)
def test_weights_of_the_flow_that_cannot_be_used(told: Told, tmp_path: Path, damage: str, message: str):
    path = damaged_weights(tmp_path, damage)
    assert f"{path}: {message}" in told(flow__source="raft", flow__weights=path, flow__size=64)


@pytest.mark.usefixtures("own_compile_cache")
@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_wrong_values_are_told_before_videos_are_prepared(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setenv("MGMAE_CACHE", str(tmp_path / "cache"))
    config = {"pretrain": "demo", "finetune": "finetune/motion_shapes"}[command]
    argv = [command, "--config", config, "--workdir", str(tmp_path / "run"), "--config.train.log_every=0"]
    assert main(argv) == 1
    assert "config.train.log_every=0: give 1 or more" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "run").exists()
