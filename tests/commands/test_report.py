import dataclasses
import os
from pathlib import Path

import pytest

from mgmae_jax.cli import main
from mgmae_jax.evaluate.report import ClassResult, UnlabelledReport, write_report
from tests.evaluate.test_compare import report


@pytest.fixture
def folders(tmp_path):
    write_report(tmp_path / "videomae" / "evaluation" / "report.json", report(5, 5, 7))
    write_report(tmp_path / "mgmae" / "evaluation" / "report.json", report(6, 2, 7))
    return [str(tmp_path / name / "evaluation") for name in ("videomae", "mgmae")]


def test_compare_prints_a_table_and_draws(folders, tmp_path, capsys):
    out = tmp_path / "difference.png"
    assert main(["report", "compare", *folders, "--out", str(out)]) == 0
    table = capsys.readouterr().out
    assert table.split()[:4] == ["videos", "videomae", "mgmae", "difference"]
    assert "+10.0" in table
    assert "-30.0" in table
    assert out.read_bytes().startswith(b"\x89PNG")


def test_names_and_number_of_classes_can_be_given(folders, capsys):
    assert main(["report", "compare", *folders, "--names", "old", "new", "--classes", "1"]) == 0
    table = capsys.readouterr().out
    assert table.split()[:4] == ["videos", "old", "new", "difference"]
    assert "+10.0" not in table


def test_other_splits_are_told_in_one_line(folders, tmp_path, capsys):
    write_report(tmp_path / "report.json", dataclasses.replace(report(5, 5, 7), split="other"))
    assert main(["report", "compare", folders[0], str(tmp_path / "report.json")]) == 1
    assert "were evaluated on different videos or labels" in capsys.readouterr().err


def test_names_that_are_not_utf8_are_printed_and_drawn(folders, tmp_path, capsys):
    name = os.fsdecode(b"caf\xe9")
    for folder, right in zip(folders, (5, 6), strict=True):
        made = dataclasses.replace(report(right), classes=(ClassResult(name, 10, right),))
        write_report(Path(folder) / "report.json", made)
    assert main(["report", "compare", *folders, "--names", name, "b", "--out", str(tmp_path / "d.png")]) == 0
    assert "caf\\udce9" in capsys.readouterr().out


def test_predictions_without_labels_are_not_compared(folders, capsys):
    path = Path(folders[1]) / "report.json"
    write_report(path, UnlabelledReport(3, (("a", 3),), (), "split", {}))
    assert main(["report", "compare", *folders]) == 1
    assert f"{path}: has no accuracies, as the videos had no labels" in capsys.readouterr().err


def test_a_folder_without_a_report_is_named(folders, tmp_path, capsys):
    assert main(["report", "compare", folders[0], str(tmp_path)]) == 1
    assert "report.json: cannot be read as a report" in capsys.readouterr().err
