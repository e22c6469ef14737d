import importlib
import pkgutil
from pathlib import Path

import pytest

from mgmae_jax import commands
from mgmae_jax.cli import main
from mgmae_jax.commands import finetune, pretrain, train_flow
from mgmae_jax.commands.options import parse_with_overrides
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


ONE = "--config.data.path=/my videos"


@pytest.mark.parametrize(
    ("words", "option", "value"),
    [
        (["pretrain", "--config=demo", "--workdir=run", "--allow-change", "optim.lr"], "allow_change", ["optim.lr"]),
        (["visualize", "--motion-shapes=falling"], "video", None),
        (["visualize", "--strategies", "tube", "--motion-shapes=falling"], "strategies", ["tube"]),
        (["features", "a.mp4", "--checkpoint=run", "--out=a.npz"], "videos", "a.mp4"),
        (["convert", "--to=mgmae", "a.pth", "run"], "source", "a.pth"),
        (["bench_data", "--config=demo", "--workers", "0", "2"], "workers", [0, 2]),
        (["bench_agreement", "videos", "--reference=dis", "--methods", "none"], "methods", ["none"]),
        (["plan", "--config=demo", "--on", "h200:8"], "on", ["h200:8"]),
    ],
)
@pytest.mark.parametrize("last", [True, False])
def test_an_override_with_a_space_is_no_value_of_an_option(words: list[str], option: str, value: object, last: bool):
    command = importlib.import_module(f"{commands.__name__}.{words[0]}").parser()
    argv = [*words[1:], ONE] if last else [ONE, *words[1:]]
    args, overrides = parse_with_overrides(command, argv)
    assert (getattr(args, option), overrides) == (value, [ONE])


def test_what_no_parser_knows_is_told_by_the_command(capsys: pytest.CaptureFixture):
    assert main(["pretrain", ONE, "--bogus=1", "--config=demo", "--workdir=run"]) == 1
    assert "unknown argument '--bogus=1': a field of the config is changed by" in capsys.readouterr().err


def test_every_command_takes_overrides_out_before_argparse():
    for module in COMMANDS:
        assert "parse_known_args" not in Path(module.__file__).read_text(encoding="utf-8"), module.__name__


LISTS = [
    (command, action)
    for command in COMMANDS
    for action in command.parser()._actions
    if action.nargs == "+" and action.option_strings
]


@pytest.mark.parametrize(("command", "action"), LISTS, ids=lambda part: getattr(part, "dest", ""))
def test_a_list_may_be_given_in_parts_and_its_default_is_not_among_them(command, action):
    flag = action.option_strings[0]
    values = [str(one) for one in action.choices or ("1", "2")][:2]
    parser = command.parser()
    for other in parser._actions:
        other.required = False
    for group in parser._mutually_exclusive_groups:
        group.required = False
    positionals = [
        name for other in parser._actions if not other.option_strings for name in [(other.choices or "x")[0]]
    ]
    args, _ = parser.parse_known_args([*positionals, flag, values[0], flag, values[1]])
    assert list(map(str, getattr(args, action.dest))) == values or getattr(args, action.dest) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["visualize", "--synthetic-flow=1", "--checkpoint=run"], "--checkpoint: without effect on the pairs"),
        (["visualize", "--synthetic-flow=1", "--strategies", "tube", "--start=0"], "--strategies, --start: without"),
        (["visualize", "--synthetic-flow=1", "--config=demo"], "--config: without effect on the pairs of"),
        (["visualize", "--synthetic-flow=1", "--heads=3"], "are for the model of --checkpoint: give it, or leave them"),
        (["visualize", "a.mp4", "--decoder-heads=3"], "--take, --heads and --decoder-heads are for the model of"),
        (
            ["finetune", "--config=finetune/motion_shapes", "--workdir=run", "--take=model"],
            "--take, --heads and --decoder-heads are for the model of --init: give it, or leave them out.",
        ),
    ],
)
def test_an_option_without_effect_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, words: list[str], told: str
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(finetune, "run_finetuning", lambda *_: pytest.fail("trained"))
    assert main(words) == 1
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_is_said_of_a_file_that_the_config_names_is_taken(monkeypatch: pytest.MonkeyPatch):
    began = []
    monkeypatch.setattr(finetune, "run_finetuning", lambda *given: began.append(given))
    monkeypatch.setattr(finetune, "enable_compilation_cache", lambda folder: None)
    words = ["--config=finetune/motion_shapes", "--workdir=run", "--take=model", "--config.init=theirs.pth"]
    finetune.main(words)
    assert len(began) == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["prepare", "videos", "--out=o", "--beam-options=--project=x"], "--beam-options '--project=x': only with"),
        (
            ["prepare", "videos", "--out=o", "--runner=DirectRunner", '--beam-options=--x="a'],
            "--beam-options '--x=\"a': No closing quotation: close what it opens",
        ),
        (["ablate", "--table=o", "--retry"], "--retry: only with --grid"),
        (["ablate", "--table=o", "--out=p", "--seeds=2"], "--out, --seeds: only with --grid"),
        (["ablate", "--table=o", "--devices", "0", "--dry-run"], "--devices, --dry-run: only with --grid"),
        (["bench", "--json", "step.json", "step"], "give step first: mgmae bench step ..."),
        (["bench", "--config=demo", "agreement"], "give agreement first: mgmae bench agreement ..."),
    ],
)
def test_options_that_do_not_go_together_end_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, words: list[str], told: str
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert told in capsys.readouterr().err
