import importlib
import pkgutil
from pathlib import Path

import pytest

from mgmae_jax import commands
from mgmae_jax.cli import main
from mgmae_jax.commands import finetune, pretrain, train_flow
from mgmae_jax.errors import MgmaeError

MODULES = [
    importlib.import_module(f"{commands.__name__}.{info.name}") for info in pkgutil.iter_modules(commands.__path__)
]
COMMANDS = [module for module in MODULES if hasattr(module, "parser")]
# What takes a text that is not a path: names, numbers, choices. Values of --methods, --reference and a source of
# `mgmae prepare` may be either.
NOT_PATHS = {
    "--allow-change", "--batch-size", "--beam-options", "--calls", "--classes", "--clips", "--clips-per-core",
    "--clips-per-device", "--codec", "--compiled", "--config", "--crops", "--decoder-heads", "--devices",
    "--flow-iters", "--flow-size", "--fsdp", "--grid", "--heads", "--iters", "--jobs", "--key-frames", "--masks",
    "--method", "--methods", "--motion-shapes", "--name", "--names", "--on", "--previews", "--processes", "--ratios",
    "--reference", "--repeats", "--runner", "--sampling", "--seconds", "--seed", "--seeds", "--shard", "--short-side",
    "--size", "--start", "--start-timeout", "--step", "--steps", "--strategies", "--synthetic-flow", "--take", "--to",
    "--utilisation", "--videos", "--workers", "sources", "what",
}  # fmt: skip
PATHS = [
    (command, action)
    for command in COMMANDS
    for action in command.parser()._actions
    if action.nargs != 0 and action.dest != "help" and (action.option_strings or [action.dest])[-1] not in NOT_PATHS
]


def name(action) -> str:
    return action.option_strings[-1] if action.option_strings else action.metavar


@pytest.mark.parametrize(("command", "action"), PATHS, ids=lambda part: getattr(part, "dest", ""))
def test_every_path_is_expanded_and_named_in_errors(command, action, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(action.type("~/x")) == f"{tmp_path}/x"
    for wrong in ("~no-such-user/x", "http://host/x"):
        with pytest.raises(MgmaeError) as told:
            action.type(wrong)
        assert str(told.value).startswith(f"{name(action)}={wrong!r}: ")


def test_every_command_but_one_has_a_path_among_its_arguments():
    without = {command.__name__ for command in COMMANDS} - {command.__name__ for command, _ in PATHS}
    assert without == {"mgmae_jax.commands.flow"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["pretrain", "--config=demo", "--workdir={}"],
        ["finetune", "--config=finetune/motion_shapes", "--workdir=run", "--init={}"],
        ["evaluate", "--checkpoint={}"],
        ["features", "video.mp4", "--checkpoint=run", "--out={}"],
        ["visualize", "video.mp4", "--weights={}"],
        ["bench", "flow", "pairs", "--methods", "{}"],
        ["bench", "flow", "{}"],
        ["report", "compare", "{}", "b"],
        ["pretrain", "--config={}", "--workdir=run"],
        ["pretrain", "--config=demo", "--workdir=run", "--config.flow.path={}"],
    ],
)
@pytest.mark.parametrize("bucket", ["gs://bucket/x.csv", "gs:/bucket/x.csv"])
def test_a_bucket_is_refused_in_a_line_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, arguments: list[str], bucket: str
):
    monkeypatch.chdir(tmp_path)
    assert main([argument.format(bucket) for argument in arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()[1:]
    assert f"={bucket!r}: is not a local path: mount the bucket (gcsfuse) and give a folder in it." in line
    assert list(tmp_path.iterdir()) == []


def test_an_empty_workdir_is_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", "--config=demo", "--workdir="]) == 1
    assert capsys.readouterr().err == "\nmgmae pretrain: --workdir='': give a path.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [pretrain, finetune, train_flow])
def test_the_time_to_wait_for_the_other_processes_is_a_flag(command, monkeypatch: pytest.MonkeyPatch):
    waited = []

    def initialize(timeout_s: float) -> None:
        waited.append(timeout_s)
        raise MgmaeError("enough")

    monkeypatch.setattr(command, "initialize", initialize)
    config = {pretrain: "demo", finetune: "finetune/motion_shapes", train_flow: "flow/raft_small"}[command]
    for more in (["--start-timeout=20.5"], []):
        with pytest.raises(MgmaeError, match="enough"):
            command.main(["--config", config, "--workdir", "run", *more])
    assert waited == [20.5, 300]


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e9", "soon", ""])
def test_a_time_that_is_none_is_told(capsys: pytest.CaptureFixture, value: str):
    with pytest.raises(SystemExit):
        pretrain.parser().parse_args(["--config=demo", "--workdir=run", f"--start-timeout={value}"])
    assert f"argument --start-timeout: {value!r}: give a number of seconds above 0" in capsys.readouterr().err
