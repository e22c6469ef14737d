"""Every command line that is shown somewhere is one that its command takes: README, docs, --help texts and configs.

Nothing is run. Each line goes through its command's own parser, its config is found from another folder than this
repository, and its overrides are made in that config.
"""

import argparse
import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mgmae_jax.cli import COMMANDS, main
from mgmae_jax.commands import report_compare
from mgmae_jax.commands.bench import OTHER_BENCHES
from mgmae_jax.commands.bench_config import PAPER
from mgmae_jax.commands.config_file import COMMON, load_config
from mgmae_jax.errors import MgmaeError

ROOT = Path(__file__).parents[1]
MODULES = {name: importlib.import_module(f"mgmae_jax.commands.{name.replace('-', '_')}") for name in COMMANDS}
MODULES["report compare"] = report_compare
MODULES |= {f"bench {name}": importlib.import_module(f"mgmae_jax.commands.bench_{name}") for name in OTHER_BENCHES}
# The kind of config of each command, and the config whose fields are changed where none is named: a run's own is one of
# its kind. None: the command takes no fields.
CONFIGS = {
    "pretrain": ("pretrain", None),
    "finetune": ("finetune", None),
    "evaluate": ("finetune", "finetune/common"),
    "report": (None, None),
    "report compare": (None, None),
    "probe": ("probe", None),
    "features": ("pretrain", "pretrain/common"),
    "convert": ("finetune", "finetune/common"),
    "prepare": (None, None),
    "check-data": (None, None),
    "flow": ("pretrain", None),
    "train-flow": ("flow", None),
    "plan": ("pretrain", None),
    "ablate": (None, None),
    "visualize": ("pretrain", None),
    "explore": ("pretrain", None),
    "bench": ("pretrain", PAPER),
    "bench step": ("pretrain", PAPER),
    "bench flow": (None, None),
    "bench data": ("pretrain", None),
    "bench agreement": ("pretrain", "pretrain/common"),
    "bench guess": ("pretrain", None),
    "bench overfit": ("pretrain", None),
    "bench leakage": ("pretrain", "pretrain/common"),
}
FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

NAMED = re.compile(r"COMMAND|[a-z]+([ -][a-z]+)*( --help)?")


class Example(NamedTuple):
    """A command line, without "mgmae", and where it is shown."""

    place: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place}: {shlex.join(self.words)}"


def texts() -> dict[str, str]:
    """Everything that shows commands."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in pages}
    found |= {f"mgmae {name} --help": module.parser().epilog for name, module in MODULES.items()}
    for path in sorted((ROOT / "configs").rglob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        found[str(path.relative_to(ROOT))] = docstring
    return found


def quoted(text: str) -> list[str]:
    """What stands between backquotes after "mgmae"."""
    return [" ".join(span.split()) for span in re.findall(r"`mgmae ([^`]+)`", FENCE.sub("", text))]


def examples() -> Iterator[Example]:
    """The command lines of blocks, and those between backquotes; a command that is only named is not one."""
    for place, text in texts().items():
        blocks = FENCE.findall(text) if place.endswith(".md") else re.findall(r"^ {2,}\S.*$", text, re.MULTILINE)
        text_of_blocks = re.sub(r"\\\n\s*", "", "\n".join(blocks))
        lines = re.findall(r"^\s*mgmae (\S.*)$", text_of_blocks, re.MULTILINE)
        variables = dict(re.findall(r"\bfor (\w+) in (\S+)", text_of_blocks))  # of a loop of the shell
        for line in [*lines, *(span for span in quoted(text) if not NAMED.fullmatch(span))]:
            value = re.sub(r"\$(\w+)", lambda found, variables=variables: variables[found[1]], line)
            yield Example(place, tuple(shlex.split(value, comments=True)))


EXAMPLES = list(dict.fromkeys(examples()))


def command_of(words: tuple[str, ...]) -> tuple[str, list[str]]:
    """A command's name and its arguments."""
    name = " ".join(words[:2]) if " ".join(words[:2]) in MODULES else words[0]
    return name, list(words[len(name.split()) :])


def parse(parser: argparse.ArgumentParser, argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    try:
        return parser.parse_known_args(argv)
    except SystemExit:
        pytest.fail(f"{parser.prog} does not take {shlex.join(argv)}")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with nothing but the files of the README."""
    monkeypatch.chdir(tmp_path)
    for name, content in FILE.findall((ROOT / "README.md").read_text(encoding="utf-8")):
        (tmp_path / name).write_text(content)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
@pytest.mark.usefixtures("elsewhere")
def test_an_example_is_one_that_its_command_takes(example: Example):
    name, argv = command_of(example.words)
    assert name in MODULES
    args, rest = parse(MODULES[name].parser(), argv)
    kind, implied = CONFIGS[name]
    if kind is None:
        assert not rest
        return
    config = load_config(getattr(args, "config", None) or implied, rest)  # an unknown flag or field is an error
    assert config.kind == kind


def test_a_command_that_is_only_named_is_there():
    named = {span for text in texts().values() for span in quoted(text) if NAMED.fullmatch(span)} - {"COMMAND"}
    assert {span for span in named if command_of(tuple(span.split()))[0] not in MODULES} == set()
    assert {"flow", "train-flow", "bench guess"} <= named


@pytest.mark.parametrize(("place", "text"), texts().items(), ids=list(texts()))
def test_a_field_that_is_mentioned_exists(place: str, text: str):
    for override in re.findall(r"--config\.[a-z][\w.]*=[^\s`$]+", text):
        errors = []
        for common in COMMON.values():
            try:
                load_config(common, [override.rstrip(",;.)")])
            except MgmaeError as error:
                errors.append(error)
        assert len(errors) < len(COMMON), f"{place}: {errors}"


@pytest.mark.parametrize("name", MODULES)
def test_help_shows_an_example_of_the_command(capsys: pytest.CaptureFixture, name: str):
    with pytest.raises(SystemExit) as left:
        main([*name.split(), "--help"])
    assert left.value.code == 0
    assert MODULES[name].EXAMPLE in capsys.readouterr().out
    assert name in [command_of(example.words)[0] for example in EXAMPLES if example.place == f"mgmae {name} --help"]


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.usefixtures("elsewhere")
def test_an_unknown_flag_is_named(capsys: pytest.CaptureFixture, name: str):
    shown = [example for example in EXAMPLES if example.place == f"mgmae {name} --help"]
    for example in [example for example in shown if command_of(example.words)[0] == name]:
        argv = [*example.words, "--bogus=1"]
        if CONFIGS[name][0] is None:
            with pytest.raises(SystemExit, match="2"):
                main(argv)
        else:
            assert main(argv) == 1
        assert "--bogus=1" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((ROOT / "launch").iterdir()), ids=lambda path: path.name)
@pytest.mark.usefixtures("elsewhere")
def test_a_launcher_names_configs_that_there_are(path: Path):
    for name in re.findall(r"--config[ =](\S+)", path.read_text(encoding="utf-8")):
        load_config(name)


def test_there_are_examples_of_each_place():
    places = {example.place for example in EXAMPLES}
    assert {"README.md", "docs/FLOW.md", "docs/RESULTS.md", "configs/demo.py", "configs/pretrain/mgmae.py"} <= places
    assert len(EXAMPLES) > 50
