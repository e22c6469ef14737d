import json
import re
from pathlib import Path

import jax
import pytest

from mgmae_jax import cli
from mgmae_jax.bench import report
from mgmae_jax.bench.masking import Sweep, masking_cases
from mgmae_jax.bench.measure import Measurement
from mgmae_jax.commands import bench
from mgmae_jax.commands.bench_config import load_bench_config
from mgmae_jax.models.variants import VARIANTS, Variant

ROOT = Path(__file__).parents[2]
TINY = [
    "--config=pretrain/common",
    "--config.clip.frames=4",
    "--config.model.name=tiny",
    "--config.model.decoder_depth=1",
    "--config.flow.iters=1",
]
GIVEN_FLOW = ["--config.clip.size=32", "--config.model.patch=8", "--config.flow.source=tvl1"]
PARTS = {
    preset: [f"motion, {preset}", f"flow, {preset}", f"masks of given flow, {preset}"] for preset in ("paper", "fast")
}
GIVEN = [f"{part}, {preset}" for preset in PARTS for part in ("motion", "masks of given flow")]
ROW = {
    "name", "clips_per_call", "calls", "ms_per_call", "ms_per_clip", "cpu_ms_per_clip", "clips_per_second",
    "times_tube", "cpu_times_tube", "agreement", "gflop_per_clip", "gflop_per_second", "planned_gib", "peak_gib",
    "compile_seconds",
}  # fmt: skip


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Runs `mgmae bench` in this process, on its eight devices; gives the JSON and what was printed."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(bench, "in_fresh_process", lambda function, *args: function(*args))

    def run(*argv, batches=("8",)):
        file = tmp_path / "bench.json"
        assert cli.main(["bench", *argv, "--batch-size", *batches, "--repeats=3", f"--json={file}"]) == 0
        return json.loads(file.read_text()), capsys.readouterr().out

    return run


def check(written, printed, names):
    assert [row["name"] for row in written["rows"]] == names
    assert written["machine"]["devices"] == 8
    assert written["config"]["train"]["batch_size"] == 8
    for row in written["rows"]:
        assert set(row) == ROW
        assert f"| {row['name']} " in printed
        times = row["ms_per_clip"]
        assert 0 < times["min"] <= times["q1"] <= times["median"] <= times["q3"] <= times["max"]
        assert row["ms_per_call"] == pytest.approx(8 * times["median"])
        assert row["clips_per_second"] == pytest.approx(1000 / times["median"])
        assert row["planned_gib"] > 0
        assert row["peak_gib"] > 0
        assert row["compile_seconds"] > 0


def test_masking_with_given_flow(run, tmp_path):
    plot = tmp_path / "cost.svg"
    written, printed = run("masking", *TINY, *GIVEN_FLOW, "--plot", str(plot))
    check(written, printed, [*GIVEN, "tube", "random"])
    assert "8 clips of 4x32x32" in printed
    assert "flow by tvl1" in printed
    agreement = {row["name"]: row["agreement"] for row in written["rows"]}
    assert agreement["motion, paper"] == 1
    assert 0.5 < agreement["motion, fast"] < 1
    assert agreement["tube"] is agreement["random"] is agreement["masks of given flow, fast"] is None
    assert "visible tokens in common with motion, paper" in re.sub("<!-- | -->", "", plot.read_text())


def test_masking_by_strategy_and_batch(run):
    written, printed = run("masking", *TINY, *GIVEN_FLOW, "--strategies", "frame", "random", batches=("16", "8"))
    found = [(row["name"], row["clips_per_call"]) for row in written["rows"]]
    assert found == [(name, clips) for clips in (8, 16) for name in ("frame", "random", "tube")]
    assert "8, 16 clips of" in printed
    for clips in (8, 16):
        rows = {row["name"]: row for row in written["rows"] if row["clips_per_call"] == clips}
        assert rows["tube"]["times_tube"] == rows["tube"]["cpu_times_tube"] == 1
        assert rows["frame"]["times_tube"] == pytest.approx(rows["frame"]["ms_per_call"] / rows["tube"]["ms_per_call"])


@pytest.mark.slow
def test_masking_with_raft(run):
    written, printed = run("masking", *TINY, "--config.clip.size=64", "--config.clip.frames=2", "--flow-size=72")
    other = "motion, fast, 72 px, 3 updates"
    check(written, printed, ["official order", *PARTS["paper"], *PARTS["fast"], "tube", "random", other])
    agreement = {row["name"]: row["agreement"] for row in written["rows"]}
    assert agreement["official order"] > 0.99
    assert 0.2 < agreement["motion, fast"] <= 1  # of one visible token each
    work = {row["name"]: row["gflop_per_clip"] for row in written["rows"]}
    for motion, flow, masks in PARTS.values():
        assert work[motion] == pytest.approx(work[flow] + work[masks], rel=1e-3)
    # Of one pair no frame is encoded twice.
    assert work["official order"] == pytest.approx(work["motion, paper"])
    assert work[other] > work["motion, fast"]
    assert work["tube"] == work["random"] == 0


@pytest.mark.slow
def test_pretrain(run, monkeypatch):
    monkeypatch.setitem(
        VARIANTS, "tiny", Variant(width=96, depth=1, heads=3, mlp=192, decoder_width=48, decoder_heads=3)
    )
    strict = jax.config.jax_numpy_dtype_promotion
    jax.config.update("jax_numpy_dtype_promotion", "standard")  # for optax, in the threads that compile too
    try:
        written, printed = run("pretrain", *TINY, *GIVEN_FLOW)
    finally:
        jax.config.update("jax_numpy_dtype_promotion", strict)
    steps = ["step, tube masks", "step, motion masks, paper", "step, motion masks, fast"]
    check(written, printed, [*steps, "masks of given flow, paper", "masks of given flow, fast"])
    tube, motion, _, masks, _ = written["rows"]
    assert tube["times_tube"] == 1
    assert motion["gflop_per_clip"] == pytest.approx(tube["gflop_per_clip"] + masks["gflop_per_clip"], rel=1e-3)
    assert motion["gflop_per_clip"] > masks["gflop_per_clip"]


def test_sizes_and_updates_of_the_flow_are_rows_of_their_own():
    config = load_bench_config(None, [], 2, "cpu")
    plain = masking_cases(config, Sweep())
    cases = masking_cases(config, Sweep(sizes=(96, 112), updates=(2, 3)))
    assert len(cases) == len(plain) + 4
    swept = {case.name: case.config.flow for case in cases if "px" in case.name}
    assert {name: (flow.size, flow.iters) for name, flow in swept.items()} == {
        f"motion, fast, {size} px, {updates} updates": (size, updates) for size in (96, 112) for updates in (2, 3)
    }
    by_size = [case.name for case in masking_cases(config, Sweep(sizes=(96,))) if "px" in case.name]
    assert by_size == ["motion, fast, 96 px, 3 updates"]


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["bench", "--help"])
    assert "mgmae bench masking\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["masking", "--config.mask.ration=0.9"], '"ratio"'),
        (["masking", "--repeat5"], "unknown argument '--repeat5'"),
        (["masking", "--config=configs/none.py"], "configs/none.py: no such config or Python file"),
        (["masking", "--json=nowhere/b.json"], "nowhere/b.json: cannot be written: its folder does not exist"),
        (["masking", "--batch-size=3"], "--batch-size 3: give a multiple of the 8 devices"),
        (["masking", "--batch-size=8", "--config.flow.source=none"], "config.flow.source='none'"),
        (["masking", "--batch-size=8", "--config.flow.source=tvl1", "--flow-size", "96"], "config.flow.source='tvl1'"),
        (["pretrain", "--batch-size=8", "--config.model.name=vit_x"], "config.model.name='vit_x'"),
        (["masking", "--plot=cost.txt"], "cost.txt: a plot is written as .png, .svg or .pdf"),
        (["masking", "--plot=nowhere/p.png"], "nowhere/p.png: cannot be written: its folder does not exist"),
        (["masking", "--batch-size=8", "--official=tests"], "tests: has no models/modeling_pretrain.py: give"),
        (["pretrain", "--batch-size=8", "--official=tests"], "a checkout of MGMAE or VideoMAE, the PyTorch program"),
    ],
)
def test_mistakes_are_named(monkeypatch, capsys, argv, message):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(bench, "in_fresh_process", lambda function, *args: function(*args))
    assert cli.main(["bench", *argv]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["masking", "--strategies", "mooton"], "mooton"),
        (["pretrain", "--batch-size", "2", "4"], "run `mgmae bench step`"),
        (["pretrain", "--plot=cost.png"], "--plot: only with masking"),
        (["masking", "--repeats=0"], "--repeats 0"),
    ],
)
def test_options_that_do_not_go_together_are_named(capsys, argv, message):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["bench", *argv])
    assert message in capsys.readouterr().err


def test_the_default_is_the_papers_setting_in_float32_on_a_cpu(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # found wherever it is run
    config = bench.load_bench_config(None, [], 2, "cpu")
    assert (config.model.name, config.clip.frames, config.clip.size) == ("vit_b", 16, 224)
    assert (config.model.dtype, config.flow.dtype, config.train.batch_size) == ("float32", "float32", 2)
    assert bench.load_bench_config(None, [], 2, "gpu").model.dtype == "bfloat16"
    chosen = bench.load_bench_config(None, ["--config.model.dtype=bfloat16"], 2, "cpu")
    assert (chosen.model.dtype, chosen.flow.dtype) == ("bfloat16", "float32")


def test_the_columns_of_the_table_are_aligned():
    slow = Measurement("step, motion masks", 2, (0.3, 0.4), (0.5, 0.7), 5.5, 12.0, 3 * 10**12, 4.5)
    fast = Measurement("tube", 2, (0.1, 0.1), (0.2, 0.2), 0.5, 1.0, 0, 0.001)
    other = Measurement("official, PyTorch", 2, (0.1, 0.1), (0.2, 0.2), 0.5)
    numbers = report.rows([slow, fast, other])
    assert numbers[0]["times_tube"] == pytest.approx(3.5)
    assert numbers[0]["cpu_times_tube"] == pytest.approx(3.0)
    assert numbers[2]["gflop_per_clip"] is numbers[2]["compile_seconds"] is None
    assert numbers[0]["gflop_per_clip"] == 1500
    assert numbers[0]["cpu_ms_per_clip"] == pytest.approx(300)
    lines = report.table(numbers).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len({tuple(index for index, letter in enumerate(line) if letter == "|") for line in lines}) == 1
    assert " 3.50 " in lines[2]
