import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open

from mgmae_jax.cli import main
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.views import ViewSpec, read_views
from mgmae_jax.datasets import motion_shapes
from mgmae_jax.evaluate.run import abstract_params
from mgmae_jax.models.classifier import Classifier
from mgmae_jax.models.variants import find_variant
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.probe import features as features_module
from mgmae_jax.runtime.checkpoint import restore_params
from mgmae_jax.runtime.mesh import make_mesh
from tests.train.finetuned import finetuned_run
from tests.train.pretrained_run import pretrained_run

TRAIN, TEST = 32, 19
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Lists of motion-shapes videos."""
    cache, options = tmp_path_factory.mktemp("shapes"), {"seed": 0, "size": (32, 48), "frames": 8}
    return {
        split: motion_shapes.prepare(cache, videos=count, split=split, **options)
        for split, count in (("train", TRAIN), ("test", TEST))
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("pretrained")
    pretrained_run(workdir)
    return workdir


def probe(run: Path, videos: dict[str, Path], *overrides: str, status: int = 0) -> None:
    fields = [
        f"--config.data.path={videos['train']}",
        f"--config.eval.path={videos['test']}",
        "--config.data.workers=0",
    ]
    fields += ["--config.train.batch_size=16", "--config.train.epochs=3", "--config.optim.warmup_epochs=1"]
    assert main(["probe", "--checkpoint", str(run), *fields, *overrides]) == status


@pytest.mark.parametrize("kind", ["linear", "attentive", "knn"])
def test_every_probe_reports_on_every_test_video(run: Path, videos: dict[str, Path], kind: str):
    probe(run, videos, f"--config.probe.kind={kind}", "--config.eval.crops=3")
    out = run / "probe" / kind
    report = json.loads((out / "report.json").read_text())
    assert report["videos"] == TEST == len((out / "predictions.csv").read_text().splitlines()) - 1
    assert [one["name"] for one in report["classes"]] == sorted(motion_shapes.CLASSES)
    assert report["about"]["config"]["probe"]["kind"] == kind
    assert (out / "confusion.png").exists()


def test_a_missing_test_video_keeps_its_place_in_the_list(run: Path, videos: dict[str, Path], tmp_path: Path):
    rows = [json.loads(line) for line in videos["test"].read_text().splitlines()]
    lines = [f"{videos['test'].parent / row['path']},{row['label']}" for row in rows]
    listed = tmp_path / "test.csv"
    listed.write_text("\n".join(["path,label", *lines[:2], f"gone.mp4,{rows[0]['label']}", *lines[2:]]))
    out = ["--config.probe.kind=knn", f"--out={tmp_path / 'out'}", "--config.data.allow_missing=true"]
    probe(run, videos | {"test": listed}, *out)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["split"] == report["about"]["split"]
    assert [one["path"] for one in report["missing"]] == [str(tmp_path / "gone.mp4")]
    places = [int(line.split(",")[0]) for line in (tmp_path / "out" / "predictions.csv").read_text().splitlines()[1:]]
    assert places == [place for place in range(TEST + 1) if place != 2]


def test_the_network_before_training_is_probed_beside_it(run: Path, videos: dict[str, Path], tmp_path: Path):
    probe(run, videos, "--config.probe.pool=tubelet", "--out", str(tmp_path))
    probe(run, videos, "--config.probe.pool=tubelet", "--config.probe.encoder=random")
    trained, random = (
        json.loads((out / "report.json").read_text()) for out in (tmp_path, run / "probe" / "linear_random")
    )
    assert (trained["about"]["weights"], random["about"]["weights"]) == ("params", "random")
    assert random["about"]["parameters"] != trained["about"]["parameters"]
    assert random["about"]["split"] == trained["about"]["split"]


def test_features_are_extracted_once(
    run: Path, videos: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    features = ["--features", str(tmp_path / "features")]
    probe(run, videos, *features, "--out", str(tmp_path / "linear"))

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("features are extracted again")

    monkeypatch.setattr(features_module, "VideoMap", never)
    for neighbours in (1, 5):
        overrides = ["--config.probe.kind=knn", f"--config.probe.neighbours={neighbours}"]
        probe(run, videos, *features, "--out", str(tmp_path / f"knn{neighbours}"), *overrides)
    with pytest.raises(AssertionError, match="extracted again"):
        probe(run, videos, *features, "--out", str(tmp_path / "other"), "--config.eval.crops=2")


def test_a_probe_is_not_mixed_with_another(run: Path, videos: dict[str, Path], tmp_path: Path, capsys):
    probe(run, videos, "--config.probe.kind=knn", "--out", str(tmp_path))
    probe(run, videos, "--config.probe.kind=linear", "--out", str(tmp_path), status=1)
    errors = capsys.readouterr().err
    assert 'probe.kind: "knn" there, "linear" now' in errors
    assert "Give another --out" in errors


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.probe.kind=mlp", "config.probe.kind='mlp': give one of linear, attentive, knn"),
        ("--config.probe.encoder=none", "config.probe.encoder='none': give one of trained, random"),
        ("--config.probe.pool=max", "config.probe.pool='max': give one of clip, tubelet"),
        ("--config.probe.neighbours=0", "config.probe.neighbours=0: give 1 or more"),
        ("--config.optim.lr=0.0", "config.optim.lr=0.0: give a number above 0"),
        ("--config.train.batch_size=12", "config.train.batch_size=12: give a multiple of the number of devices"),
        ("--config.eval.clips=0", "config.eval.clips=0: give 1 or more"),
        ("--config.views.clips=0", "config.views.clips=0: give 1 or more"),
        ("--config.views.sampling=all", "config.views.sampling='all': give one of uniform, dense"),
    ],
)
def test_wrong_values_name_the_field(run: Path, videos: dict[str, Path], override: str, message: str, capsys):
    probe(run, videos, override, status=1)
    assert message in capsys.readouterr().err


def features_of(run: Path, what: Path, out: Path, *options: str) -> Path:
    assert main(["features", str(what), "--checkpoint", str(run), "--out", str(out), "--workers", "0", *options]) == 0
    assert not out.with_name(out.name + ".partial").exists()
    return out


def test_features_of_a_list(run: Path, videos: dict[str, Path], tmp_path: Path):
    options = ["--clips", "2", "--clips-per-device", "2", "--sampling", "uniform"]
    pooled = np.load(features_of(run, videos["test"], tmp_path / "pooled.npz", *options))
    assert (pooled["features"].shape, pooled["features"].dtype) == ((TEST, 2, 128), np.float32)
    lines = [json.loads(line) for line in videos["test"].read_text().splitlines()]
    assert [Path(path).name for path in pooled["paths"]] == [Path(line["path"]).name for line in lines]
    assert [pooled["class_names"][label] for label in pooled["labels"]] == [line["label"] for line in lines]
    assert json.loads(str(pooled["about"]))["checkpoint"] == str(run / "checkpoints" / "3")
    path = features_of(run, videos["test"], tmp_path / "tokens.safetensors", "--tokens", *options)
    with safe_open(path, "np") as tokens:
        assert tokens.get_tensor("features").shape == (TEST, 2, 2, 2, 2, 128)
        mean = tokens.get_tensor("features").astype(np.float32).mean(axis=(2, 3, 4))
        assert json.loads(tokens.metadata()["paths"]) == pooled["paths"].tolist()
    np.testing.assert_allclose(mean, pooled["features"], atol=2e-3)


def test_features_of_one_video_by_a_fine_tuned_model_are_what_its_head_sees(videos: dict[str, Path], tmp_path: Path):
    finetuned_run(tmp_path / "run", ("a", "b"))
    video = next(videos["test"].parent.glob("*/*.mp4"))
    found = np.load(features_of(tmp_path / "run", video, tmp_path / "one.npz", "--crops", "3"))
    assert found["features"].shape == (1, 3, find_variant("tiny").width)
    assert "labels" not in found
    state = json.loads((tmp_path / "run" / "config.json").read_text())
    clip = ClipSpec(4, state["clip"]["stride"], 32)
    views = jnp.asarray(read_views(str(video), ViewSpec(clip, "dense", clips=1, crops=3)))
    model = Classifier(find_variant("tiny"), TokenGrid(4, 32, 32), classes=2)
    params = restore_params(tmp_path / "run", abstract_params(model, make_mesh()))
    np.testing.assert_allclose(
        found["features"][0], model.apply({"params": params}, views, method="features"), atol=2e-4
    )


def test_unreadable_videos_are_errors_or_left_out(run: Path, videos: dict[str, Path], tmp_path: Path, capsys):
    good = [str(path) for path in sorted(videos["test"].parent.glob("*/*.mp4"))[:3]]
    listed = tmp_path / "list.csv"
    listed.write_text("\n".join([good[0], "gone.mp4", *good[1:]]))
    command = ["features", str(listed), "--checkpoint", str(run), "--out", str(tmp_path / "f.npz"), "--workers", "0"]
    assert main(command) == 1
    told = capsys.readouterr().err
    assert "gone.mp4: no such file" in told
    assert "give --allow-missing to leave such videos out" in told
    found = np.load(features_of(run, listed, tmp_path / "f.npz", "--allow-missing"))
    assert found["paths"].tolist() == good
    whole = np.load(features_of(run, videos["test"], tmp_path / "all.npz"))
    for path, row in zip(found["paths"], found["features"], strict=True):
        np.testing.assert_allclose(row, whole["features"][whole["paths"].tolist().index(path)], atol=1e-5)


def test_cut_off_it_goes_on(run: Path, videos: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = np.load(features_of(run, videos["test"], tmp_path / "whole.npz", "--clips-per-device", "1"))
    add, seen = features_module._Kept.add, []

    def cut(self: object, rows: np.ndarray, *rest: object) -> None:
        if len(seen) == 1:
            raise KeyboardInterrupt
        seen.append(rows.tolist())
        add(self, rows, *rest)

    monkeypatch.setattr(features_module._Kept, "add", cut)
    command = ["features", str(videos["test"]), "--checkpoint", str(run), "--out", str(tmp_path / "cut.npz")]
    assert main([*command, "--workers", "0", "--clips-per-device", "1"]) == 130
    monkeypatch.setattr(
        features_module._Kept, "add", lambda self, rows, *rest: (seen.append(rows), add(self, rows, *rest))
    )
    found = np.load(features_of(run, videos["test"], tmp_path / "cut.npz", "--clips-per-device", "1"))
    assert seen[0][0] == 0
    assert seen[1][0] == len(seen[0])
    np.testing.assert_allclose(found["features"], whole["features"], atol=1e-6)


def test_a_damaged_cache_is_told_with_the_flag_of_the_command(
    run: Path, videos: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    command = ["features", str(videos["test"]), "--checkpoint", str(run), "--out", str(tmp_path / "f.npz")]
    monkeypatch.setattr(features_module, "_readable", lambda *_: 1 / 0)  # as if killed before the file was written
    with pytest.raises(ZeroDivisionError):
        main([*command, "--workers", "0"])
    (index,) = (tmp_path / "f.npz.partial").glob("*.json")
    index.write_text("[1]")
    assert main([*command, "--workers", "0"]) == 1
    assert f"{index.name}: cannot be used" in (told := capsys.readouterr().err)
    assert "remove it, or give another --out" in told


@pytest.mark.parametrize(("flag", "value"), [("--clips", "0"), ("--workers", "-1"), ("--clips-per-device", "x")])
def test_a_wrong_number_names_its_flag(flag: str, value: str, capsys):
    with pytest.raises(SystemExit):
        main(["features", "x.mp4", "--checkpoint", "run", "--out", "f.npz", flag, value])
    assert f"argument {flag}: {value!r}: give a whole number of" in capsys.readouterr().err


def test_another_ending_is_refused(run: Path, tmp_path: Path, capsys):
    assert main(["features", "x.mp4", "--checkpoint", str(run), "--out", str(tmp_path / "f.pt")]) == 1
    assert "features are written as .npz or .safetensors" in capsys.readouterr().err
