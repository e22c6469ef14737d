"""`mgmae bench step --compiled`, with the CPU's devices in place of a TPU slice's."""

import json

import jax
import pytest

from mgmae_jax import cli
from mgmae_jax.bench.step import ROWS
from mgmae_jax.commands import bench_compiled
from mgmae_jax.models.variants import VARIANTS, Variant
from mgmae_jax.plan import topology
from mgmae_jax.plan.chips import CHIPS
from mgmae_jax.plan.compile import Compiled
from mgmae_jax.plan.memory import Memory
from mgmae_jax.plan.rows import RowCosts, numbers, tables
from mgmae_jax.plan.topology import check_libtpu

TINY = [
    "--config=pretrain/common", "--config.model.name=micro", "--config.model.decoder_depth=1",
    "--config.clip.frames=4", "--config.clip.size=32", "--config.model.patch=8", "--config.flow.source=tvl1",
]  # fmt: skip


@pytest.fixture(autouse=True)
def as_optax_needs_it():
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_rows_are_compiled_for_every_chip_and_compared(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench_compiled, "tpu_devices", lambda machines: jax.devices())
    monkeypatch.setattr(bench_compiled, "check_libtpu", lambda: None)
    monkeypatch.setattr(bench_compiled, "plan_on_cpu", lambda: None)
    monkeypatch.delitem(ROWS, "motion, paper")  # compiling takes the time
    small = Variant(width=48, depth=1, heads=3, mlp=96, decoder_width=48, decoder_heads=3)
    monkeypatch.setitem(VARIANTS, "micro", small)
    file = tmp_path / "compiled.json"
    assert cli.main(["bench", "step", *TINY, "--compiled=v5e:2x4", "--batch-size=16", f"--json={file}"]) == 0
    written, printed = json.loads(file.read_text()), capsys.readouterr().out
    assert (written["bench"], written["compiled"], written["config"]["data"]["views"]) == ("step", "v5e:2x4", 1)
    assert "of the compiled program, not measured" in printed
    tube, fast = written["rows"]
    assert [tube["name"], fast["name"]] == list(ROWS)
    for row in (tube, fast):
        assert (row["clips_per_chip"], row["fits"]) == (2, True)
        assert row["compute_seconds"] == pytest.approx(row["flops"] / 197e12)
        assert row["memory_seconds"] == pytest.approx(row["bytes_moved"] / 819e9)
        assert row["times_tube"] == pytest.approx(row["least_seconds"] / tube["least_seconds"])
        assert row["flops"] == pytest.approx(sum(row["flops_by_scope"].values()))
        assert row["flops_by_scope"]["model"] > 0.9 * tube["flops"]
        assert min(row["bytes_by_scope"][scope] for scope in ("model", "update", "cubes")) > 0
        assert row["pair_arrays"], "a CPU's attention writes all pairs"
        assert f"| {row['name']} " in printed
    assert fast["bytes_by_scope"]["mask"] > tube["bytes_by_scope"]["mask"]


def test_what_does_not_fit_has_its_memory_only():
    refused = Compiled(Memory(2**30, 0, 0, 0, 0, temporaries=2**31), fits=False, seconds=3.0)
    rows = [RowCosts("tube", 24, CHIPS["v5e"], refused, None)]
    (row,) = numbers(rows)
    assert (row["fits"], row["planned_bytes"]) == (False, 3 * 2**30)
    assert "bytes_moved" not in row
    assert "does not fit" in tables(rows)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--compiled=v9:8x8"], "--compiled 'v9:8x8': there is no chip 'v9'"),
        (["--compiled=h200:8"], "--compiled h200:8: give a TPU slice, as v5e:8x8"),
        (["--compiled=v5e:8x8", "--batch-size=65"], "--compiled v5e:8x8: config.train.batch_size=65: give a multiple"),
    ],
)
def test_mistakes_are_named(capsys, argv, message):
    assert cli.main(["bench", "step", *argv]) == 1
    assert message in capsys.readouterr().err


def test_a_missing_libtpu_is_named(capsys, monkeypatch):
    assert bench_compiled.check_libtpu is check_libtpu
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["bench", "step", "--compiled=v5e:8x8"]) == 1
    assert "pip install 'mgmae-jax[plan]'" in capsys.readouterr().err
