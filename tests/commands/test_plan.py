import json
import re
from pathlib import Path

import pytest

from mgmae_jax.cli import main
from mgmae_jax.commands import plan
from mgmae_jax.plan import topology

SMALL = ["--config=demo", "--config.train.batch_size=16"]
WHOLE_FRAMES = [f"--config.flow.{field}" for field in ("source=raft", "whole_frame=True", "size=64")]


def test_a_plan_for_gpus_says_what_is_known_and_what_is_not(tmp_path: Path, capsys: pytest.CaptureFixture):
    path = tmp_path / "plan.json"
    assert main(["plan", *SMALL, "--on", "h200:8", "h100:64", "--fsdp", "1", "8", f"--json={path}"]) == 0
    out, err = capsys.readouterr()
    assert "micro, 2,048 videos, 3 epochs of 4 views: 384 steps of 64 clips" in out
    assert "assumed: 40% of the chips' peak, 57 clips a second read by each core" in out
    assert re.search(r"\| h200:8 +\| +8 \| +8 \| .* - \| +- \| .* \? \|", out)
    assert "temporaries are not known" in out
    assert "tracing the step: done in" in err
    whole = json.loads(path.read_text())
    assert [(one["on"], one["fsdp"], one["clips_per_chip"], one["fits"]) for one in whole["plans"]] == [
        ("h200:8", 1, 8, None), ("h200:8", 8, 8, None), ("h100:64", 1, 1, None), ("h100:64", 8, 1, None)
    ]  # fmt: skip
    assert whole["plans"][0]["memory_bytes"]["temporaries"] is None
    assert whole["plans"][0]["chip_hours"] == pytest.approx(whole["plans"][0]["days"] * 24 * 8)
    assert (whole["videos"], whole["steps"], whole["utilisation"]) == (2048, 384, 0.4)


def test_half_the_utilisation_takes_twice_the_time(tmp_path: Path):
    days = []
    for share in ("0.4", "0.2"):
        path = tmp_path / f"{share}.json"
        assert main(["plan", *SMALL, "--on", "v5e:2x2", "--no-compile", "--utilisation", share, f"--json={path}"]) == 0
        days.append(json.loads(path.read_text())["plans"][0]["days"])
    assert days[1] == pytest.approx(2 * days[0])


def test_what_does_not_fit_is_told_with_what_to_change(capsys: pytest.CaptureFixture):
    fields = ["model.name=vit_g", "model.patch=14", "mask.strategy=tube", "flow.source=none", "train.batch_size=48000"]
    overrides = [f"--config.{field}" for field in (*fields, "train.epochs=40.0")]
    command = ["plan", "--config=pretrain/common", *overrides, "--on", "v5e:4x4", "--no-compile", "--videos=500000"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert re.search(r"\| v5e:4x4 .* NO \|", out)
    assert "v5e:4x4 fsdp=1 does not fit. Change one of:\n  - mesh.fsdp (now 1): over all 16 chips" in out


@pytest.mark.parametrize("name", ["probe/motion_shapes", "ablation/main"])
def test_a_config_of_another_kind_is_one_line(capsys: pytest.CaptureFixture, name: str):
    assert main(["plan", "--config", name, "--on", "h200:8"]) == 1
    want = f"config.kind='{name.partition('/')[0]}': give a config of kind 'pretrain' or 'finetune', which have a plan"
    assert capsys.readouterr().err.startswith(f"\nmgmae plan: {want}")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--on", "v9:8x8"], "--on 'v9:8x8': there is no chip 'v9'"),
        (["--on", "h200:8", "--fsdp", "3"], "--on h200:8: config.mesh.fsdp=3: give a divisor of the number of devices"),
        (["--on", "h200:8", "--fsdp", "0"], "--on h200:8: config.mesh.fsdp=0: give a divisor"),
        (["--on", "h200:128"], "--on h200:128: config.train.batch_size=16: give a multiple of the number of devices"),
        (
            ["--on", "h200:64", *WHOLE_FRAMES],
            "--on h200:64: config.train.batch_size=16: give a multiple of the number of devices, which is 64",
        ),
        (["--on", "h200:8", "--videos", "0"], "--videos 0: give 1 or more."),
        (["--on", "h200:8", "--json", "none/plan.json"], "none/plan.json: cannot be written: its folder"),
        (["--on", "h200:8", "--json", "."], ".: cannot be written: it is a folder"),
        (["--on", "v5e:4x8:3", "--fsdp", "3"], "--on v5e:4x8:3: config.mesh.fsdp=3: give a divisor or a multiple of"),
    ],
)
def test_what_cannot_be_planned_is_one_line_before_anything_is_traced(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    arguments: list[str],
    told: str,
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "build_work", lambda *_: pytest.fail("traced"))
    assert main(["plan", *SMALL, *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()[1:]
    assert line.startswith(f"mgmae plan: {told}")


def test_a_missing_libtpu_is_told_before_anything_is_traced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(plan, "build_work", lambda *_: pytest.fail("traced"))
    assert main(["plan", *SMALL, "--on", "v5e:2x2"]) == 1
    assert capsys.readouterr().err == f"\nmgmae plan: {topology.MISSING}\n"


@pytest.mark.parametrize("value", ["0", "-1", "1.1", "nan", "inf", "most"])
def test_a_utilisation_is_a_share(capsys: pytest.CaptureFixture, value: str):
    with pytest.raises(SystemExit):
        plan.parser().parse_args(["--config=demo", "--on=h200:8", f"--utilisation={value}"])
    assert f"--utilisation: {value!r}: give a number above 0, at most 1" in capsys.readouterr().err


def test_a_sign_of_life_is_given_while_waiting(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setattr(plan, "_TICK", 1e-3)
    with plan.working("compiling"):
        while (told := capsys.readouterr().err).count("compiling: ") < 1:
            pass
    assert "compiling: 0 s" in told
    assert capsys.readouterr().err.endswith("compiling: done in 0 s\n")
