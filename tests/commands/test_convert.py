"""Models of other programs: converted, and used by the other commands as they are."""

import csv
import dataclasses
import json
import subprocess
import sys
import types
from pathlib import Path

import av
import jax
import numpy as np
import pytest
import safetensors.numpy

from mgmae_jax.cli import main
from mgmae_jax.commands import finetune
from mgmae_jax.commands.checkpoints import open_checkpoint
from mgmae_jax.commands.config_file import load_config
from mgmae_jax.commands.convert import weights_of_run
from mgmae_jax.errors import ConfigError, MgmaeError
from mgmae_jax.interop.hugging_face import describe
from mgmae_jax.interop.model_file import Asked
from mgmae_jax.runtime.run_info import write_run_info
from mgmae_jax.runtime.weights import Weights
from mgmae_jax.train.finetune import build_finetuning
from mgmae_jax.train.pretrained import load_init
from tests.interop import official_files as files
from tests.interop.official_files import (
    AUTOENCODER,
    CLASSIFIER,
    canonical,
    checkpoint,
    hugging_face,
    official,
    training_extras,
)

NAMES = ("run", "jump", "sit")
ASKED = Asked(heads=files.HEADS, decoder_heads=files.DECODER_HEADS)
HEADS = ["--heads", str(files.HEADS), "--decoder-heads", str(files.DECODER_HEADS)]
ONE_VIEW = ["--config.eval.sampling=uniform", "--config.eval.clips=1", "--config.eval.crops=1"]
ONE_VIEW += ["--config.data.workers=0", "--config.eval.clips_per_device=4"]


def lossless(path: Path, frames: np.ndarray) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24").reformat(format="bgr0")))
        container.mux(stream.encode(None))


def predictions(out: Path) -> list[tuple]:
    with (out / "predictions.csv").open(newline="") as file:
        return [(row["prediction"], row["top5"], row["top5_probabilities"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def clips() -> np.ndarray:
    shape = (4, files.FRAMES, files.SIZE, files.SIZE, 3)
    return np.random.default_rng(5).integers(0, 256, shape).astype(np.uint8)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, clips: np.ndarray) -> Path:
    """A list of videos that hold just the frames of one clip each, labelled by numbers."""
    folder = tmp_path_factory.mktemp("videos")
    for number, clip in enumerate(clips):
        lossless(folder / f"{number}.mkv", clip)
    (folder / "list.csv").write_text("path,label\n" + "".join(f"{i}.mkv,{i % 3}\n" for i in range(len(clips))))
    return folder / "list.csv"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """classifier.pth, autoencoder.pth, and the classifier as a Hugging Face folder with names and the same eps."""
    folder = tmp_path_factory.mktemp("models")
    for name, parts in (("classifier", CLASSIFIER), ("autoencoder", AUTOENCODER)):
        data = checkpoint({"model": official(parts), "model_ema": official(parts, 1)}, extra=training_extras())
        (folder / f"{name}.pth").write_bytes(data)
    files.write_folder(folder / "hf", CLASSIFIER, id2label={str(i): name for i, name in enumerate(NAMES)})
    return folder


def convert(source: Path, destination: Path, *options: str, status: int = 0) -> Path:
    assert main(["convert", str(source), str(destination), *options]) == status
    return destination


def evaluate(source: Path, videos: Path, out: Path, *options: str, status: int = 0) -> Path:
    argv = ["evaluate", "--checkpoint", str(source), "--out", str(out), f"--config.eval.path={videos}", *ONE_VIEW]
    assert main([*argv, *options]) == status
    return out


@pytest.fixture(scope="module")
def direct(place: Path, videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluate(place / "classifier.pth", videos, tmp_path_factory.mktemp("direct"), *HEADS)


def test_a_file_is_evaluated_without_a_conversion(direct: Path, clips: np.ndarray, place: Path):
    report = json.loads((direct / "report.json").read_text())
    assert report["about"]["checkpoint"] == str(place / "classifier.pth")
    weights = json.loads((direct / "run.json").read_text())["weights"]
    assert weights == report["about"]["run"]["weights"]
    assert (weights["from"], weights["state_dict"]) == (str(place / "classifier.pth"), "model")
    assert len(weights["sha256"]) == 64
    assert len(predictions(direct)) == len(clips)


def test_every_form_gives_the_same(direct: Path, place: Path, videos: Path, tmp_path: Path):
    run = convert(place / "classifier.pth", tmp_path / "run", *HEADS)
    one = convert(run, tmp_path / "one.safetensors")
    for number, source in enumerate((run, one)):
        assert predictions(evaluate(source, videos, tmp_path / f"out{number}")) == predictions(direct)


def test_all_values_come_back_bit_for_bit(place: Path, tmp_path: Path):
    for name, parts in (("classifier", CLASSIFIER), ("autoencoder", AUTOENCODER)):
        run = convert(place / f"{name}.pth", tmp_path / name / "run", *HEADS)
        folder = convert(run, tmp_path / name / "hf", "--to", "huggingface")
        again = convert(folder, tmp_path / name / "again.safetensors")
        last = convert(again, tmp_path / name / "last", "--to", "huggingface")
        for found in (folder, last):
            tensors = safetensors.numpy.load_file(found / "model.safetensors")
            wanted = hugging_face(parts)
            assert tensors.keys() == wanted.keys()
            for key, tensor in wanted.items():
                np.testing.assert_array_equal(tensors[key], tensor)
        assert describe(folder / "config.json").frames == files.FRAMES
        assert {path.name for path in folder.iterdir()} >= {"config.json", "preprocessor_config.json", "README.md"}


def test_names_of_classes_travel(place: Path, videos: Path, tmp_path: Path):
    run = convert(place / "hf", tmp_path / "run")
    assert json.loads((run / "classes.json").read_text()) == list(NAMES)
    folder = convert(run, tmp_path / "hf", "--to", "huggingface")
    config = json.loads((folder / "config.json").read_text())
    assert (config["id2label"], config["label2id"]["sit"]) == ({"0": "run", "1": "jump", "2": "sit"}, 2)
    assert config["layer_norm_eps"] == 1e-12
    assert "run, jump, sit" in (folder / "README.md").read_text()
    named = videos.with_name("named.csv")
    named.write_text("path,label\n" + "".join(f"{i}.mkv,{NAMES[i % 3]}\n" for i in range(3)))
    out = evaluate(place / "hf", named, tmp_path / "out")
    assert [one["name"] for one in json.loads((out / "report.json").read_text())["classes"]] == list(NAMES)


def test_the_card_says_what_the_run_measured(place: Path, videos: Path, tmp_path: Path):
    run = convert(place / "classifier.pth", tmp_path / "run", *HEADS)
    untrained = convert(run, tmp_path / "untrained", "--to", "huggingface")
    assert "## Training" not in (untrained / "README.md").read_text()
    evaluate(run, videos, run / "evaluation" / "0")
    top1 = json.loads((run / "evaluation/0/report.json").read_text())["top1"]["value"]
    (run / "metrics.jsonl").write_text('{"step": 3, "loss": 1.25}\n')
    (run / "accuracy").mkdir()
    (run / "accuracy" / "metrics.jsonl").write_text('{"step": 3, "top1": 0.5}\n')
    card = (convert(run, tmp_path / "trained", "--to", "huggingface") / "README.md").read_text()
    assert f"| top-1 / top-5, step 0, 4 videos, 1x1 views | {top1:.2%} / 100.00% |" in card
    assert "| training loss, step 3 | 1.2500 |" in card
    assert "| top-1 in training, step 3 | 50.00% |" in card
    assert "| layer decay | 0.65 |" in card
    assert str(tmp_path) not in card


def test_the_report_names_every_tensor(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    convert(place / "classifier.pth", tmp_path / "run", *HEADS, "--take", "model_ema")
    text = capsys.readouterr().out
    for name in official(CLASSIFIER):
        assert f" {name} " in text
    assert "reshaped  head.weight" in text
    assert "took 'model_ema' (--take gives model)" in text
    bias = weights_of_run(tmp_path / "run").values("head.bias")
    np.testing.assert_array_equal(bias, canonical(CLASSIFIER, 1)["head.bias"])


def test_a_config_of_other_weights_is_refused(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    run = convert(place / "classifier.pth", tmp_path / "run", *HEADS)
    changes = {"model.name=vit_b": "8/2/2/16/1/1", "model.patch=8": "4", "model.tubelet=4": "2", "model.classes=4": "3"}
    for source, options in ((place / "classifier.pth", HEADS), (run, [])):
        for change, has in changes.items():
            convert(source, tmp_path / "other", *options, f"--config.{change}", status=1)
            assert f"give {has}, as {source}" in capsys.readouterr().err
    autoencoder = place / "autoencoder.pth"
    convert(autoencoder, tmp_path / "other", *HEADS, "--config.loss.target=hog", status=1)
    assert f"config.loss.target='hog': give normalised, as {autoencoder}" in capsys.readouterr().err
    convert(run, tmp_path / "other", "--config.model.positions=separable", status=1)
    assert "config.model.positions='separable': give flat" in capsys.readouterr().err
    files.write_folder(tmp_path / "hf", CLASSIFIER, num_frames=5)
    convert(tmp_path / "hf", tmp_path / "other", status=1)
    assert "config.clip.frames=5: give a multiple of model.tubelet=2" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_what_a_classifier_of_half_the_tokens_is_elsewhere(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    clip = ["--config.clip.size=16", "--config.mask.ratio=0.5"]
    run = convert(place / "classifier.pth", tmp_path / "run", *HEADS, *clip)
    folder = convert(run, tmp_path / "hf", "--to", "huggingface")
    remark = "Here the encoder sees 50% of a clip's tokens, as it was trained (mask.ratio=0.5). Other programs"
    assert capsys.readouterr().out.count(remark) == 1
    assert remark in (folder / "README.md").read_text()
    assert remark not in (convert(place / "hf", tmp_path / "all", "--to", "huggingface") / "README.md").read_text()


def test_it_is_written_before_anything_is_printed(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("mgmae_jax.commands.convert.print_lines", broken)
    with pytest.raises(BrokenPipeError):
        convert(place / "classifier.pth", tmp_path / "one.safetensors", *HEADS)
    assert (tmp_path / "one.safetensors").is_file()


def test_raft_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture):
    with np.load(Path(__file__).parents[1] / "golden/raft_small.npz") as arrays:
        tensors = {f"module.{name[2:]}": arrays[name] for name in arrays.files if name.startswith("w:")}
    average = {name: tensor + np.float32(1) for name, tensor in tensors.items()}
    (tmp_path / "raft.pth").write_bytes(checkpoint({"model": tensors, "model_ema": average}))
    found = safetensors.numpy.load_file(convert(tmp_path / "raft.pth", tmp_path / "raft.safetensors"))
    stem = tensors["module.fnet.conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(found["feature_encoder.stem.kernel"], stem)
    assert "reshaped  module.fnet.conv1.weight" in capsys.readouterr().out
    ema = safetensors.numpy.load_file(
        convert(tmp_path / "raft.pth", tmp_path / "ema.safetensors", "--take", "model_ema")
    )
    np.testing.assert_array_equal(ema["feature_encoder.stem.kernel"], stem + np.float32(1))
    capsys.readouterr()
    convert(tmp_path / "raft.pth", tmp_path / "raft", status=1)
    assert "becomes a .safetensors file" in capsys.readouterr().err


def test_what_cannot_be_written(place: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    convert(place / "hf", tmp_path / "model.pth", status=1)
    assert "pip install 'mgmae-jax[convert]'" in capsys.readouterr().err
    convert(place / "hf", place, status=1)
    assert "is there already" in capsys.readouterr().err
    override = ["--config.model.trained_frames=2"]
    convert(place / "hf", tmp_path / "other", "--to", "huggingface", *override, status=1)
    assert "other programs do not interpolate positions" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_other_clips_are_refused_with_the_numbers_or_interpolated(place, videos, tmp_path, capsys):
    evaluate(place.parent, videos, tmp_path / "out", "--take", "model", status=1)
    assert "--take, --heads and --decoder-heads are for models of other programs" in capsys.readouterr().err
    evaluate(place / "hf", videos, tmp_path / "out", "--config.clip.frames=2", status=1)
    assert "config.model.trained_frames=None: give 4, clip.frames of" in capsys.readouterr().err
    named = videos.with_name("both.csv")
    named.write_text("path,label\n0.mkv,run\n")
    options = ["--config.clip.frames=2", "--config.model.trained_frames=4"]
    evaluate(place / "hf", named, tmp_path / "out", *options)
    folder = files.write_folder(tmp_path / "hf", AUTOENCODER)
    argv = ["features", str(videos), "--checkpoint", str(folder), "--out", str(tmp_path / "a.npz")]
    assert main([*argv, "--config.clip.frames=2"]) == 1
    assert "config.clip.frames=2: give 4, as in" in capsys.readouterr().err


def test_an_encoder_for_fine_tuning(place: Path, tmp_path: Path, capsys):
    path = str(place / "autoencoder.pth")
    sizes = f"{files.WIDTH}/2/{files.HEADS}/{files.MLP}/{files.DECODER}/{files.DECODER_HEADS}"
    fields = {"model.name": sizes, "model.patch": files.PATCH, "clip.frames": 4, "clip.size": 8, "model.classes": 3}
    overrides = [f"--config.{name}={value}" for name, value in (fields | {"init": path}).items()]
    config = load_config("finetune/common", overrides)
    finetuning = build_finetuning(config, 100)
    abstract = jax.eval_shape(finetuning.init, jax.random.key(0))
    source: dict = {}
    parts = load_init(config, lambda place: open_checkpoint(place, ASKED), source, abstract)
    want = canonical(AUTOENCODER)["encoder.blocks.1.mlp.fc2.weight"].T
    np.testing.assert_array_equal(parts["encoder"]["blocks"]["block_1"]["mlp"]["fc2"]["kernel"], want)
    assert source["from"] == path
    assert "masked autoencoder" in capsys.readouterr().err


def test_a_resumed_run_keeps_what_it_began_with(tmp_path: Path):
    config = load_config("finetune/common")
    write_run_info(tmp_path, config, [], weights={"from": "a.pth"})
    write_run_info(tmp_path, config, [], changes=[], weights={})
    assert json.loads((tmp_path / "run.json").read_text())["weights"] == {"from": "a.pth"}


def test_a_hugging_face_encoder_states_its_clips(place: Path):
    overrides = [f"--config.init={place / 'hf'}", "--config.clip.frames=6", "--config.model.trained_size=8"]
    config = load_config("finetune/common", overrides)
    with pytest.raises(ConfigError, match=r"model\.trained_frames=None: give 4, clip\.frames of .*hf"):
        load_init(config, lambda place: open_checkpoint(place, ASKED), {}, None)


def test_features_and_pictures_of_a_file(place: Path, videos: Path, tmp_path: Path, capsys):
    path = str(place / "autoencoder.pth")
    argv = ["features", str(videos), "--checkpoint", path, "--out", str(tmp_path / "a.npz"), "--workers", "0", *HEADS]
    assert main(argv) == 0
    with np.load(tmp_path / "a.npz") as found:
        assert found["features"].shape == (4, 1, files.WIDTH)
        assert np.isfinite(found["features"]).all()
    options = ["--config.flow.source=none", "--config.mask.strategy=tube", "--config.mask.ratio=0.5"]
    video = str(videos.with_name("0.mkv"))
    assert main(["visualize", video, "--checkpoint", path, "--out", str(tmp_path / "a.png"), *HEADS, *options]) == 0
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, place: Path, tmp_path: Path):
    """A Hub with one model, as huggingface_hub shows it; the list is of what was asked for."""
    asked: list = []
    cached = tmp_path / "models--me--mine" / "snapshots" / "abc123"
    cached.parent.mkdir(parents=True)
    cached.symlink_to(place / "hf")

    def snapshot_download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        if name == "me/torch":  # only its config.json fits the patterns
            return str(tmp_path)
        if name != "me/mine":
            raise ConnectionError("offline")
        return str(cached)

    fake = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return asked


def test_a_model_of_the_hub(hub: list, videos: Path, tmp_path: Path, monkeypatch, capsys):
    named = videos.with_name("hub.csv")
    named.write_text("path,label\n0.mkv,run\n1.mkv,sit\n")
    monkeypatch.chdir(tmp_path)
    argv = ["evaluate", "--checkpoint", "hf://me/mine@main", f"--config.eval.path={named}", *ONE_VIEW]
    assert main(argv) == 0
    assert hub == [("me/mine", "main")]
    run = json.loads(Path("runs/me_mine/evaluation/run.json").read_text())
    assert run["weights"]["revision"] == "abc123"
    assert run["weights"]["from"] == "hf://me/mine@main"
    assert main(["evaluate", "--checkpoint", "hf://me/other"]) == 1
    assert "hf://me/other: cannot be downloaded (ConnectionError: offline)" in capsys.readouterr().err
    assert main(["evaluate", "--checkpoint", "hf://me/torch"]) == 1
    assert main(["evaluate", "--checkpoint", "hf://me/torch@v2"]) == 1
    told = "has no model.safetensors and no pytorch_model.bin; give the repository's file of weights, as"
    assert f"{told} hf://me/torch/FILE." in (errors := capsys.readouterr().err)
    assert f"{told} hf://me/torch/FILE@v2." in errors
    config = load_config("finetune/common", ["--config.init=hf://me/mine"])
    assert config.init == "hf://me/mine"
    with pytest.raises(MgmaeError, match="hf://OWNER/NAME"):
        open_checkpoint("hf://mine", Asked())


def test_without_the_library_the_hub_is_a_clear_message(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert main(["evaluate", "--checkpoint", "hf://me/mine"]) == 1
    assert "pip install 'mgmae-jax[hub]'" in capsys.readouterr().err


def test_fine_tuning_opens_what_init_names(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    found: list = []

    def run(config, workdir, argv, allow_change, open_init) -> None:
        found.append(open_init(config.init))

    monkeypatch.setattr(finetune, "run_finetuning", run)
    argv = ["finetune", "--config", "finetune/ssv2_vit_b", "--workdir", str(tmp_path), "--init"]
    assert main([*argv, str(place / "hf")]) == 0
    assert main([*argv, str(tmp_path)]) == 0
    assert isinstance(found[0], Weights)
    assert found[1] == tmp_path


_MEASURED = """
import pathlib, re, sys
from mgmae_jax.cli import main

def peak():  # getrusage's would be that of the process that started this one
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])

small, out, source, destination, *options = sys.argv[1:]
assert main(["convert", small, out, *options]) == 0  # what the libraries themselves take
before = peak()
assert main(["convert", source, destination, *options]) == 0
print(peak() - before)
"""


def test_memory_is_below_three_times_the_size(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in {"WIDTH": 384, "MLP": 1536, "PATCH": 16}.items():
        monkeypatch.setattr(files, name, value)
    large = tmp_path / "vit_s.pth"
    large.write_bytes(checkpoint({"model": official(dataclasses.replace(CLASSIFIER, depth=12))}))
    size = large.stat().st_size
    assert size > 80e6
    shares = []
    for number, (source, options) in enumerate([(large, HEADS), (tmp_path / "run0", ["--to", "huggingface"])]):
        small = place / "classifier.pth" if number == 0 else tmp_path / "small0"
        paths = (small, tmp_path / f"small{number}", source, tmp_path / f"run{number}")
        argv = [sys.executable, "-c", _MEASURED, *map(str, paths), *options]
        told = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        shares.append(int(told) / size)
    assert all(0.5 < share < 3 for share in shares), shares
