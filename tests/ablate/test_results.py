"""The table of a grid, from what a fake program wrote."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from mgmae_jax.ablate.cells import grid_cells
from mgmae_jax.ablate.results import as_json, markdown, read_results
from mgmae_jax.ablate.runner import Runner
from mgmae_jax.cli import main
from mgmae_jax.commands.ablate import GRIDS, begin, shard_of, write_tables
from mgmae_jax.errors import FileError, MgmaeError
from tests.ablate.run_grid import FAKE, nothing, small_grid

ARRAY = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "4"}


def ran(out: Path, **options: object) -> Path:
    grid = small_grid(3, finetune=True, classes=True)
    Runner(grid_cells(grid, out), nothing, out / "data.lock", program=FAKE, say=lambda line: None, **options).run()
    (out / GRIDS).mkdir(exist_ok=True)
    (out / GRIDS / "small.json").write_text(json.dumps(grid.to_json()))
    return out


def change(out: Path, row: str, seed: int, file: str, content: object) -> None:
    (path,) = (out / "cells" / row / f"seed{seed}").glob(file)
    path.write_text(json.dumps(content) + "\n")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid that has run."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE", str(folder))
        return ran(folder / "out")


@pytest.fixture
def out(tmp_path: Path, made: Path) -> Path:
    """The same, where the rows differ."""
    out = shutil.copytree(made, tmp_path / "out")
    for seed, error, accuracy in ((12, 0.26, 0.13), (13, 0.27, 0.15), (14, 0.28, 0.17)):
        change(out, "demo-2", seed, "pretrain/guesses.json", {"network": error, "mean_cube": 0.5})
        change(out, "demo-2", seed, "finetune-5/accuracy/metrics.jsonl", {"step": 3, "top1": accuracy})
    return out


def test_the_table_has_means_errors_and_pairs(out: Path):
    results = read_results(small_grid(3, finetune=True, classes=True), out)
    assert results.failures == ()
    assert results.missing == 0
    assert results.mean("motion", "error") == pytest.approx((0.27, 0.01 / 3**0.5, 3))
    assert results.mean("random weights", "probe") == pytest.approx((20.0, 0.0, 3))
    difference = results.difference("motion", "finetune")  # 13 - 12, 15 - 13, 17 - 14
    assert difference.mean.value == pytest.approx(2.0)
    assert difference.p == 0.25
    assert results.difference("tube", "finetune") is None
    text = markdown(results)
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in text.splitlines()
            if line.startswith("| ")}  # fmt: skip
    assert list(rows) == ["", "random weights", "tube", "motion", "class", "a"]
    table = dict(zip(rows[""][1:], rows["motion"][1:], strict=True))
    assert rows["motion"][0] == "3"
    assert table["error of hidden cubes"] == "0.2700 ± 0.0058"
    assert table["the mean cube's"] == "0.5000 ± 0.0000"
    assert rows["motion"][2] == "+0.0200 ± 0.0058 (t 3.5, p 0.25)"
    assert rows["motion"][5] == "+0.0 ± 0.0 (t 0.0, p 1)"
    assert rows["random weights"][1:6] == ["", "", "", "20.0 ± 0.0", "-30.0 ± 0.0 (t -inf, p 0.25)"]
    assert table["minutes of training"] == "0.1 ± 0.0"  # 3 steps of 2 seconds
    assert rows["a"] == ["30", "50.0", "50.0", "+0.0"]
    content = as_json(results)
    assert json.loads(json.dumps(content, allow_nan=False))["rows"]["motion"]["finetune"]["by_seed"]["14"] == 0.17


def test_a_table_is_written_with_its_pictures(out: Path, capsys: pytest.CaptureFixture):
    assert main(["ablate", "--table", str(out)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("## A small grid\n")
    assert (out / "small.md").read_text() == text[:-1]
    assert json.loads((out / "small.json").read_text())["grid"]["baseline"] == "tube"
    for name in ("small.png", "small_classes1.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_an_error_that_is_no_number_is_null_in_json(out: Path):
    change(out, "demo-2", 13, "pretrain/guesses.json", {"network": float("nan"), "mean_cube": 0.5})
    content = as_json(read_results(small_grid(3, finetune=True, classes=True), out))
    figure = json.loads(json.dumps(content, allow_nan=False))["rows"]["motion"]["error"]
    assert figure["by_seed"] == {"12": 0.26, "13": None, "14": 0.28}
    assert figure["shown"] == {"value": None, "error": None, "seeds": 3}
    assert figure["difference"] == {"value": None, "error": None, "seeds": 3, "t": None, "p": None}


def test_a_grid_does_not_take_the_tables_of_another_of_the_same_name(tmp_path: Path):
    first = small_grid(3)
    begin(first, tmp_path)
    begin(dataclasses.replace(first, seeds=(12, 13)), tmp_path)
    with pytest.raises(FileError, match=r"small\.json: is of another grid, 'A small grid', .* 'Another', .* --out"):
        begin(dataclasses.replace(first, title="Another"), tmp_path)
    assert json.loads((tmp_path / GRIDS / "small.json").read_text())["seeds"] == [12, 13]


def test_a_row_that_is_compared_with_another_than_the_baseline_says_so(out: Path):
    grid = small_grid(3)
    rows = (grid.rows[1], grid.rows[0])
    object.__setattr__(grid, "baseline", "motion")
    object.__setattr__(grid, "rows", rows)  # motion, against tube, which is not the baseline
    text = markdown(read_results(grid, out))
    assert "+0.0200 ± 0.0058 (t 3.5, p 0.25, to tube)" in text


def test_a_name_with_a_bar_stays_in_its_cell(out: Path):
    grid = small_grid(3, finetune=True, classes=True)
    grid = dataclasses.replace(grid, rows=(grid.rows[0], dataclasses.replace(grid.rows[1], name="a|b")))
    lines = [line for line in markdown(read_results(grid, out)).splitlines() if line.startswith("|")]
    assert sum("a\\|b" in line for line in lines) == 2
    assert not any("a|b" in line for line in lines)


def test_failures_and_what_is_left_are_in_the_table(tmp_path: Path, fake):
    fake.fail("demo-2/seed13/pretrain")
    out = ran(tmp_path / "out")
    results = read_results(small_grid(4, finetune=True, classes=True), out)
    assert [failure[:5] for failure in results.failures] == [("motion", 13, "pretrain", 1, "it cannot work")]
    text = markdown(results)
    assert "- motion, seed 13: pretrain, status 1: it cannot work (" in text
    # What needs the one that failed, and the fourth seed: 5 parts of tube and 4 of motion.
    assert results.missing == 3 + 9
    assert "12 parts have not ended: the table is not complete." in text
    assert "| motion | 2 |" in text
    assert results.difference("motion", "probe").mean.seeds == 2


def test_nothing_yet_is_a_table_too(tmp_path: Path):
    results = read_results(small_grid(), tmp_path)
    assert "10 parts have not ended" in write_tables(results, tmp_path)
    assert not (tmp_path / "small.png").exists()


def test_a_damaged_output_is_named(out: Path):
    change(out, "demo-2", 12, "pretrain/guesses.json", [1])
    with pytest.raises(FileError, match=r"seed12/pretrain/guesses.json: cannot be read \(not a JSON object\)"):
        read_results(small_grid(3), out)
    change(out, "demo-2", 12, "pretrain/guesses.json", {"network": 0.3})
    with pytest.raises(FileError, match=r"guesses.json: cannot be read \(mean_cube is None, not a number\): remove it"):
        read_results(small_grid(3), out)


def test_a_folder_without_a_grid_and_a_damaged_grid_are_told(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["ablate", "--table", str(tmp_path)]) == 1
    assert "has no grids/*.json: give --table the --out of" in capsys.readouterr().err
    (tmp_path / GRIDS).mkdir()
    (tmp_path / GRIDS / "x.json").write_text("{}")
    assert main(["ablate", "--table", str(tmp_path)]) == 1
    assert "x.json: is not a grid of this version" in capsys.readouterr().err


def test_cells_are_listed_and_commands_printed_without_running_anything(tmp_path: Path, capsys: pytest.CaptureFixture):
    grid = ["ablate", "--grid", "ablation/table1c", "--out", str(tmp_path / "out"), "--seeds", "2"]
    assert main([*grid, "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split("  ")[:4] == ["frame, seed 12", "pretrain open", "probe open", "random open"]
    assert lines[-1] == "4 cells, 10 parts: 0 done, 0 failed, 0 begun, 10 open"
    assert main([*grid, "--dry-run", "--shard", "1/4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["pretrain", "probe", "probe"]
    assert lines[0].startswith(
        "mgmae pretrain --config pretrain/motion_shapes --config.data.motion_shapes.videos=2048 "
    )
    assert "--config.seed=12" in lines[0]
    assert not (tmp_path / "out").exists()


def test_the_part_of_a_job_array_is_read_where_it_is_asked_for():
    assert shard_of("1/3", ARRAY) == "1/3"
    assert shard_of("slurm", ARRAY) == "2/4"
    assert shard_of("slurm", ARRAY | {"SLURM_ARRAY_TASK_STEP": "2"}) == "1/4"
    with pytest.raises(MgmaeError, match=r"--shard slurm: SLURM_ARRAY_TASK_ID, .* start it in a job array"):
        shard_of("slurm", {})
    for gap in ({"SLURM_ARRAY_TASK_ID": "9"}, {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_STEP": "2"}):
        with pytest.raises(MgmaeError, match="without gaps"):
            shard_of("slurm", ARRAY | gap)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the arguments --grid --table is required"),
        (["--grid", "ablation/main"], "--out: give the folder for the runs of --grid"),
        (["--grid", "ablation/main", "--out", "x", "--jobs", "0"], "--jobs 0: give 1 or more"),
        (["--grid", "ablation/main", "--out", "x", "--devices", "0", "0"], "--devices 0 0: name each once"),
        (["--grid", "ablation/main", "--out", "x", "--devices", "0", "--jobs", "2"], "not allowed with argument"),
    ],
)
def test_a_wrong_command_line_is_told(arguments: list[str], message: str, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit, match="2"):
        main(["ablate", *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--grid", "ablation/mian"],
            "--grid ablation/mian: no such config or Python file; did you mean ablation/main",
        ),
        (["--grid", "demo"], "config.kind='pretrain': give a config of kind 'ablation'"),
        (["--grid", "ablation/main", "--seeds", "30"], "config.seeds=30: give 1 to 20; --seeds as well"),
        (["--grid", "ablation/main", "--shard", "3/3"], "--shard 3/3: give I/N"),
    ],
)
def test_a_wrong_value_is_told(arguments: list[str], message: str, capsys: pytest.CaptureFixture, tmp_path: Path):
    assert main(["ablate", "--out", str(tmp_path / "out"), *arguments]) == 1
    assert message in capsys.readouterr().err
