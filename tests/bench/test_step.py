import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from mgmae_jax import cli
from mgmae_jax.bench.flops import count_flops
from mgmae_jax.bench.step import ROWS, StepTime, matrix_rate, model_flops, numbers, table, with_row
from mgmae_jax.commands.bench_config import load_bench_config
from mgmae_jax.models.variants import VARIANTS, Variant
from mgmae_jax.train.pretrain import build_pretraining

ROOT = Path(__file__).parents[2]
TINY = [
    "--config=pretrain/common", "--config.model.name=micro", "--config.model.decoder_depth=1",
    "--config.clip.frames=4", "--config.clip.size=32", "--config.model.patch=8", "--config.flow.source=tvl1",
]  # fmt: skip


@pytest.fixture(autouse=True)
def as_optax_needs_it():
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.slow
def test_every_row_is_timed_and_written(tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(ROWS, "motion, paper")  # compiling takes the time
    small = Variant(width=48, depth=1, heads=3, mlp=96, decoder_width=48, decoder_heads=3)
    monkeypatch.setitem(VARIANTS, "micro", small)
    file = tmp_path / "step.json"
    assert cli.main(["bench", "step", *TINY, "--batch-size", "8", "--calls=2", f"--json={file}"]) == 0
    written, printed = json.loads(file.read_text()), capsys.readouterr().out
    assert [row["name"] for row in written["rows"]] == list(ROWS)
    assert (written["bench"], written["machine"]["devices"]) == ("step", 8)
    for row in written["rows"]:
        assert f"| {row['name']} " in printed
        assert row["clips_per_second"] == pytest.approx(8000 / row["ms_per_step"])
        share = written["model_flop_per_clip"] * row["clips_per_second"] / (8 * written["matrix_flop_per_second"])
        assert row["mfu"] == pytest.approx(share)
        assert min(row["planned_gib"], row["compile_seconds"]) > 0


def test_the_rows_differ_in_masks_and_flow():
    config = load_bench_config(None, ["--config.flow.iters=9"], 2, "gpu")
    rows = {name: with_row(config, name, 16) for name in ROWS}
    assert {row.train.batch_size for row in rows.values()} == {16}
    assert rows["tube"].mask.strategy == "tube"
    found = {name: (row.mask.warp, row.flow.size, row.flow.iters) for name, row in rows.items() if name != "tube"}
    assert found == {"motion, paper": ("backward", None, 6), "motion, fast": ("trajectory", 112, 3)}


def test_model_flops_are_those_of_a_clip_without_flow():
    config = load_bench_config("pretrain/common", TINY[1:-1], 2, "cpu")  # flow by RAFT
    pretraining = build_pretraining(with_row(config, "tube", 2), 100)
    batch = {"clip": jax.ShapeDtypeStruct((2, 4, 32, 32, 3), jnp.uint8)}
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(pretraining.init, key)
    whole = count_flops(jax.jit(pretraining.step).trace(state, {}, batch, key).jaxpr.jaxpr)
    assert model_flops(config, 1) == pytest.approx(whole / 2, rel=1e-6)
    config.model.remat = True
    assert model_flops(config, 1) == pytest.approx(whole / 2, rel=1e-6)


def test_what_ran_out_of_memory_has_no_time():
    times = [
        StepTime("tube", 8, (0.5, 0.4, 0.5), 1.0, 2.0),
        StepTime("motion, paper", 8, (), 99.0, 3.0),
        StepTime("motion, fast", 8, (0.6,), 1.5, 3.0),
    ]
    tube, paper, fast = rows = numbers(times, 10**9, 10**11, 1)
    assert (tube["ms_per_step"], tube["times_tube"], tube["mfu"]) == (500, 1, pytest.approx(0.16))
    assert (paper["ms_per_step"], paper["times_tube"], paper["planned_gib"]) == (None, None, 99.0)
    assert fast["times_tube"] == pytest.approx(1.2)
    assert "out of memory" in table(rows)


def test_the_rate_of_products_is_positive_and_finite():
    assert 1e6 < matrix_rate("float32") < 1e16


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--batch-size", "8", "3"], "--batch-size 3: give a multiple of the 8 devices"),
        (["--json=nowhere/s.json"], "nowhere/s.json: cannot be written: its folder does not exist"),
        (["--config.mask.ration=0.9"], '"ratio"'),
    ],
)
def test_mistakes_are_named(capsys, argv, message):
    assert cli.main(["bench", "step", *argv]) == 1
    assert message in capsys.readouterr().err


def test_measuring_needs_no_reader_of_videos():
    """On a machine with jax, flax, optax, orbax, numpy and ml_collections alone, benches and flow training start."""
    absent = ("av", "array_record", "cv2", "grain", "matplotlib", "PIL", "safetensors", "tensorboardX")
    modules = ("commands.bench", "commands.bench_step", "bench.masking", "bench.pretrain", "train.flow", "train.masks")
    lines = [
        "import sys",
        *(f"sys.modules[{name!r}] = None" for name in absent),
        *(f"import mgmae_jax.{module}" for module in modules),
        "print('started')",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "started\n", done.stderr
