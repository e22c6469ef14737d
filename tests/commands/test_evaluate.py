import csv
import io
import json
import os
import shutil
from pathlib import Path

import pytest

from mgmae_jax.cli import main
from mgmae_jax.datasets import motion_shapes
from mgmae_jax.runtime.preemption import Preemption
from tests.train.finetuned import finetuned_run

VIDEOS = 18


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The list of a few motion-shapes videos: not every class has two."""
    return motion_shapes.prepare(
        tmp_path_factory.mktemp("shapes"), videos=VIDEOS, seed=0, split="test", size=(32, 48), frames=8
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, videos: Path) -> Path:
    workdir = tmp_path_factory.mktemp("run")
    finetuned_run(workdir, motion_shapes.CLASSES, ema=True, eval__path=videos)
    return workdir


def evaluate(run: Path, out: Path, *overrides: str, status: int = 0) -> dict:
    assert main(["evaluate", "--checkpoint", str(run), "--out", str(out), *overrides]) == status
    return json.loads((out / "report.json").read_text()) if status == 0 else {}


@pytest.fixture(scope="module")
def report(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("evaluation")
    return out, evaluate(run, out)


def test_the_report_agrees_with_its_predictions(report: tuple[Path, dict], videos: Path):
    out, found = report
    with (out / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    listed = [json.loads(line) for line in videos.read_text().splitlines()]
    assert [row["path"] for row in rows] == [str(videos.parent / line["path"]) for line in listed]
    assert [row["label_name"] for row in rows] == [line["label"] for line in listed]
    hits = [row["label"] == row["prediction"] for row in rows]
    assert found["top1"]["value"] == sum(hits) / VIDEOS
    assert found["top5"]["value"] == sum(row["label"] in row["top5"].split() for row in rows) / VIDEOS
    assert [one["name"] for one in found["classes"]] == list(motion_shapes.CLASSES)
    assert sum(one["videos"] for one in found["classes"]) == found["videos"] == VIDEOS
    for row in rows:
        shares = [float(share) for share in row["top5_probabilities"].split()]
        assert shares == sorted(shares, reverse=True)
        assert row["probability"] == row["top5_probabilities"].split()[0]
    assert len({row["prediction"] for row in rows}) > 1


def test_sigterm_leaves_what_is_known_and_the_same_command_resumes(
    report: tuple[Path, dict], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    with monkeypatch.context() as patch:
        patch.setattr(Preemption, "reached", lambda self: True)
        evaluate(run, tmp_path, status=143)
    assert "the predictions so far are saved. Run the same command to resume." in capsys.readouterr().err
    known = len((tmp_path / "predictions.csv").read_text().splitlines()) - 1
    assert 0 < known < VIDEOS
    assert evaluate(run, tmp_path)["top1"] == report[1]["top1"]


def test_the_report_says_what_was_evaluated(report: tuple[Path, dict], run: Path):
    out, found = report
    about = found["about"]
    assert about["checkpoint"] == str(run / "checkpoints" / "7")
    assert about["weights"] == "ema"
    assert about["config"]["eval"]["crops"] == 3
    assert {"jax", "mgmae_jax"} <= set(about["run"]["versions"])
    assert (out / "confusion.png").read_bytes().startswith(b"\x89PNG")
    with (out / "confusion.csv").open(newline="") as file:
        matrix = [row[1:] for row in csv.reader(file)][1:]
    assert sum(int(cell) for row in matrix for cell in row) == VIDEOS


def test_again_it_takes_what_is_there(run: Path, report: tuple[Path, dict], capsys: pytest.CaptureFixture):
    out, found = report
    before = (out / "predictions.csv").read_bytes()
    assert evaluate(run, out) == found | {"about": found["about"]}
    assert (out / "predictions.csv").read_bytes() == before
    assert f"top-1       {100 * found['top1']['value']:.2f}%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "field"),
    [("--config.eval.weights=raw", "evaluated.parameters"), ("--config.eval.crops=2", "eval.crops: 3 there, 2 now")],
)
def test_evaluations_are_not_mixed(
    run: Path, report: tuple[Path, dict], override: str, field: str, capsys: pytest.CaptureFixture
):
    evaluate(run, report[0], override, status=1)
    errors = capsys.readouterr().err
    assert field in errors
    assert "Give another --out" in errors


def test_the_raw_weights_can_be_asked_for(run: Path, report: tuple[Path, dict], tmp_path: Path):
    found = evaluate(run, tmp_path, "--config.eval.weights=raw")
    assert found["about"]["weights"] == "params"
    assert (tmp_path / "predictions.csv").read_bytes() != (report[0] / "predictions.csv").read_bytes()


def test_the_folder_is_in_the_workdir_by_default(videos: Path, tmp_path: Path):
    finetuned_run(tmp_path, motion_shapes.CLASSES, eval__path=videos)
    assert main(["evaluate", "--checkpoint", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "evaluation" / "7" / "report.json").read_text())
    assert found["about"]["weights"] == "params"


def told(run: Path, capsys: pytest.CaptureFixture, *overrides: str) -> str:
    assert main(["evaluate", "--checkpoint", str(run), "--out", str(run / "out"), *overrides]) == 1
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    return errors


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a.mp4,2"], "{list} has numbers, the model's classes are pushed_left, pushed_right, "),
        (["a.mp4,falling", "b.mp4,liftd"], "not trained on: liftd (did you mean 'lifted'?)"),
        (["a.mp4,falling", "b.mp4"], "line 2: give every line a label, or none"),
        (["path,label,split", "a.mp4,falling,test"], "line 1: has the column 'split'"),
        ([], "{list}: lists no video"),
        (["gone.mp4,falling"], "gone.mp4: no such file. Every video counts"),
    ],
)
def test_a_list_that_cannot_be_measured_is_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, lines: list[str], message: str
):
    path = tmp_path / "list.csv"
    path.write_text("\n".join(lines))
    out = f"--config.eval.path={path}"
    assert main(["evaluate", "--checkpoint", str(run), "--out", str(tmp_path / "out"), out]) == 1
    assert message.format(list=path) in capsys.readouterr().err


def test_videos_without_labels_get_predictions_only(
    run: Path, videos: Path, report: tuple[Path, dict], tmp_path: Path, capsys: pytest.CaptureFixture
):
    lines = [json.loads(line) for line in videos.read_text().splitlines()]
    path = tmp_path / "list.csv"
    path.write_text("".join(f"{videos.parent / line['path']}\n" for line in lines))
    found = evaluate(run, tmp_path / "out", f"--config.eval.path={path}")
    printed = capsys.readouterr().out
    assert "no labels: predictions only, for 18 videos" in printed
    assert "top-1" not in printed
    assert "confusion" not in printed
    assert not {"top1", "top5", "mean_class"} & set(found)
    assert {file.name for file in (tmp_path / "out").iterdir()} >= {"report.json", "predictions.csv"}
    assert not list((tmp_path / "out").glob("confusion.*"))
    with (
        (tmp_path / "out" / "predictions.csv").open(newline="") as file,
        (report[0] / "predictions.csv").open() as other,
    ):
        rows, labelled = list(csv.DictReader(file)), list(csv.DictReader(other))
    assert [row["prediction_name"] for row in rows] == [row["prediction_name"] for row in labelled]
    assert {row["label"] + row["label_name"] for row in rows} == {""}
    counts = {one["name"]: one["predicted"] for one in found["classes"]}
    assert counts == {name: sum(row["prediction_name"] == name for row in rows) for name in motion_shapes.CLASSES}
    before = (tmp_path / "out" / "predictions.csv").read_bytes()
    evaluate(run, tmp_path / "out", f"--config.eval.path={path}")
    assert (tmp_path / "out" / "predictions.csv").read_bytes() == before


def test_a_missing_video_is_told_in_the_report(run: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    lines = [json.loads(line) for line in videos.read_text().splitlines()]
    path = tmp_path / "list.jsonl"
    listed = [{"path": str(videos.parent / line["path"]), "label": line["label"]} for line in lines]
    listed[3]["path"] = "gone.mp4"
    path.write_text("\n".join(map(json.dumps, listed)))
    found = evaluate(run, tmp_path, f"--config.eval.path={path}", "--config.data.allow_missing=true")
    assert found["videos"] == VIDEOS - 1
    assert found["missing"] == [{"path": str(tmp_path / "gone.mp4"), "reason": "no such file"}]
    assert "MISSING: 1 videos could not be read" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.model.name=vit_s", "is of another model or optimiser: ema/encoder/"),
        ("--config.model.classes=15", "config.model.classes=15: give 16, the classes of"),
        ("--config.eval.weights=best", "config.eval.weights='best': give one of auto, raw, ema"),
        ("--config.eval.sampling=random", "config.eval.sampling='random'"),
    ],
)
def test_a_config_that_does_not_fit_is_told(run: Path, capsys: pytest.CaptureFixture, override: str, message: str):
    assert message in told(run, capsys, override)


def test_a_checkpoint_without_classes_is_told(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    finetuned_run(tmp_path, motion_shapes.CLASSES)
    (tmp_path / "classes.json").unlink()
    assert "give a fine-tuned model; a pre-trained one has no classes" in told(tmp_path, capsys)


def test_a_model_of_numbers_is_evaluated_by_names_that_are_not_utf8(tmp_path: Path, videos: Path):
    name = os.fsdecode(b"caf\xe9")
    clips = sorted(videos.parent.glob("*/*.mp4"))[:3]
    for i, folder in enumerate(("2", "10", name)):
        (tmp_path / "test" / folder).mkdir(parents=True)
        shutil.copy(clips[i], tmp_path / "test" / folder / f"{name} {i}.mp4")
    finetuned_run(tmp_path / "run", ("10", "2", name), eval__path=tmp_path / "test")  # not in the order of their values
    found = evaluate(tmp_path / "run", tmp_path / "out")
    assert [(one["name"], one["videos"]) for one in found["classes"]] == [("10", 1), ("2", 1), (name, 1)]
    text = (tmp_path / "out" / "predictions.csv").read_bytes().decode("utf-8", "surrogateescape")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [(row["label"], row["label_name"]) for row in rows] == [("0", "10"), ("1", "2"), ("2", name)]
    assert all(os.path.exists(row["path"]) for row in rows)
    lines = "".join(f"{row['path']},{row['label_name']}\n" for row in rows[:2])
    (tmp_path / "list.csv").write_text(lines, errors="surrogateescape")
    numbers = evaluate(tmp_path / "run", tmp_path / "numbers", f"--config.eval.path={tmp_path}/list.csv")
    assert [one["correct"] for one in numbers["classes"][:2]] == [one["correct"] for one in found["classes"][:2]]


def test_a_wrong_path_of_test_videos_is_named(run: Path, capsys: pytest.CaptureFixture):
    assert "config.eval.path='/no/such.csv': give a folder of videos" in told(
        run, capsys, "--config.eval.path=/no/such.csv"
    )
