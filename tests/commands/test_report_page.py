import json
from pathlib import Path

import numpy as np
import pytest

from mgmae_jax.cli import main
from mgmae_jax.evaluate.report import UnlabelledReport, write_report
from mgmae_jax.show.video_out import write_png
from tests.evaluate.test_compare import report
from tests.show.html_pages import HOSTILE, checked


def workdir(folder: Path, *, ratio: float = 0.9, steps: int = 5, previews: int = 6) -> Path:
    """What a run leaves, without checkpoints."""
    folder.mkdir(parents=True)
    lines = [{"step": 10 * step, "loss": 1 / step, "lr": 0.1, "grad_norm": None} for step in range(1, steps + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "accuracy").mkdir()
    (folder / "accuracy" / "metrics.jsonl").write_text('{"step": 50, "top1": 0.5}\n')
    (folder / "config.json").write_text(json.dumps({"kind": "pretrain", "mask": {"ratio": ratio}}))
    (folder / "run.json").write_text(json.dumps({"command": f"mgmae pretrain {HOSTILE[0]}", "devices": 1}))
    (folder / "guesses.json").write_text('{"network": 0.25}')
    for step in range(previews):
        picture = np.full((20, 30, 3), 10 * step, np.uint8)
        write_png(folder / "previews" / f"{10 * step:08d}.png", picture)
    write_report(folder / "evaluation" / "50" / "report.json", report(5, 9))
    write_report(folder / "evaluation" / "60" / "report.json", UnlabelledReport(3, (("a", 3),), (), "split", {}))
    return folder


def test_one_run_is_a_page(tmp_path: Path, capsys: pytest.CaptureFixture):
    out = tmp_path / "new" / "page.html"
    assert main(["report", str(workdir(tmp_path / "mine")), "--out", str(out), "--png"]) == 0
    page = checked(out.read_text())
    words = " ".join(page.texts)
    for shown in ("Report of mine", "mask.ratio", HOSTILE[0], "mine, step 50", "70.00", "Accuracy: top1"):
        assert shown in words
    assert [one["alt"].split(":")[0] for one in page.named("img")] == [f"mine, step {s}" for s in (0, 20, 30, 50)]
    assert (tmp_path / "new" / "page_curves.png").read_bytes().startswith(b"\x89PNG")
    assert "page.html (0.0 MB)" in capsys.readouterr().err


def test_several_runs_are_called_by_what_tells_their_folders_apart(tmp_path: Path):
    runs = [str(workdir(tmp_path / name / "run", ratio=ratio)) for name, ratio in (("a", 0.9), ("b", 0.5))]
    assert main(["report", *runs, "--out", str(tmp_path / "page.html"), "--previews=0", "--png"]) == 0
    page = checked((tmp_path / "page.html").read_text())
    assert {"a/run", "b/run", "Report of 2 runs"} <= set(page.texts)
    assert not page.named("img")
    assert {path.name for path in tmp_path.glob("*.png")} == {"page_curves1.png", "page_curves2.png"}
    assert main(["report", *runs, "--out", str(tmp_path / "page.html"), "--names", "one", "two"]) == 0
    assert {"one", "two"} <= set(checked((tmp_path / "page.html").read_text()).texts)


def test_guesses_that_are_not_numbers_are_told(tmp_path: Path, capsys: pytest.CaptureFixture):
    folder = workdir(tmp_path / "mine")
    (folder / "guesses.json").write_text('{"network": "low"}')
    assert main(["report", str(folder), "--out", str(tmp_path / "page.html")]) != 0
    assert "guesses.json: cannot be read (network is 'low', not a number); remove the file" in capsys.readouterr().err


def test_a_folder_with_a_hostile_name_injects_nothing(tmp_path: Path):
    folder = workdir(tmp_path / "<img src=x onerror=alert(1)>")
    assert main(["report", str(folder), "--out", str(tmp_path / "page.html")]) == 0
    page = checked((tmp_path / "page.html").read_text())
    assert len(page.named("img")) == 4
    assert not page.named("script")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{}/none"], "none: has no config.json: give the --workdir of a run"),
        (["{}/run", "{}/run"], "run': is given twice"),
        (["{}/run", "--out=page.pdf"], "page.pdf: pages are written as .html"),
        (["{}/run", "--names", "a", "b"], "--names: 2 names for 1 runs: give one for each"),
        (["{}/run"] * 9, "9 runs are too many"),
        (["{}/damaged"], "guesses.json: cannot be read (not a JSON object)"),
        (["{}/picture"], "00000000.png: cannot be read as a picture"),
        (["{}/broken", "--previews=9"], "00000010.png: cannot be read as a picture"),
    ],
)
def test_mistakes_are_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list[str], told: str):
    for name in ("run", "damaged", "picture", "broken"):
        workdir(tmp_path / name)
    (tmp_path / "damaged" / "guesses.json").write_text("[1]")
    (tmp_path / "picture" / "previews" / "00000000.png").write_bytes(b"no picture")
    broken = tmp_path / "broken" / "previews" / "00000010.png"
    broken.write_bytes(broken.read_bytes().replace(b"IDAT", b"\xa8\x9a;Z"))
    out = tmp_path / "page.html"
    assert main(["report", f"--out={out}", *(argument.format(tmp_path) for argument in arguments)]) == 1
    assert told in capsys.readouterr().err
    assert not out.exists()


def test_a_run_that_has_only_begun_has_a_page(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"kind": "pretrain"}')
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "page.html")]) == 0
    checked((tmp_path / "page.html").read_text())
