from pathlib import Path

import pytest

from mgmae_jax import configs
from mgmae_jax.commands.config_names import config_names, run_config
from mgmae_jax.errors import FileError, MgmaeError

ROOT = Path(__file__).parents[2]
MINE = """
from mgmae_jax.configs.pretrain import common


def get_config():
    config = common.get_config()
    config.train.epochs = 3.0
    return config
"""
TABLE = """
import dataclasses

from mgmae_jax.configs.pretrain import common


@dataclasses.dataclass(frozen=True)
class Row:
    epochs: "float"


ROWS = {"short": Row(1.0), "long": Row(9.0)}


def get_config(row):
    config = common.get_config()
    config.train.epochs = ROWS[row].epochs
    return config
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder outside any checkout."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_file_and_every_row_has_a_name():
    assert {"demo", "pretrain/folder", "pretrain/ssv2_vit_b", "finetune/motion_shapes"} <= set(config_names())
    assert {"flow/raft_small", "flow/raft_small_cpu", "probe/common"} <= set(config_names())
    assert "pretrain/mgmae" not in config_names()  # a family is named by its rows
    files = {path.stem for path in (ROOT / "configs").rglob("*.py") if path.stem != "__init__"}
    assert {Path(place[0]).name for place in config_names().values()} == files


@pytest.mark.parametrize(
    "value",
    [
        "pretrain/ssv2_vit_b",
        "configs/pretrain/ssv2_vit_b",
        "configs/pretrain/ssv2_vit_b.py",
        "./configs/pretrain/ssv2_vit_b.py",
        "pretrain/mgmae:ssv2_vit_b",
        "configs/pretrain/mgmae.py:ssv2_vit_b",
        str(ROOT / "configs" / "pretrain" / "mgmae.py:ssv2_vit_b"),
    ],
)
def test_ways_to_name_a_row(value: str):
    assert run_config(value).to_dict() == run_config("pretrain/ssv2_vit_b").to_dict()


@pytest.mark.parametrize("value", ["demo", "demo.py", "configs/demo.py", str(ROOT / "configs" / "demo.py")])
def test_ways_to_name_a_file_of_the_package(value: str):
    assert run_config(value).seed == 12


def test_a_file_of_ones_own_builds_on_the_package(elsewhere: Path):
    (elsewhere / "mine.py").write_text(MINE)
    assert run_config("mine.py").train.epochs == 3
    assert run_config(str(elsewhere / "mine.py")).train.epochs == 3
    assert [path.name for path in elsewhere.iterdir()] == ["mine.py"]  # no bytecode beside it


def test_a_file_goes_before_a_name(elsewhere: Path):
    (elsewhere / "configs").mkdir()
    (elsewhere / "configs" / "demo.py").write_text(MINE)
    assert run_config("configs/demo.py").seed == 0
    assert run_config("demo").seed == 12


def test_a_file_of_ones_own_may_have_rows(elsewhere: Path):
    (elsewhere / "mine.py").write_text(TABLE)
    assert run_config("mine.py:long").train.epochs == 9
    with pytest.raises(
        MgmaeError, match=r"--config mine\.py: give one of its rows, as in mine\.py:short; they are short"
    ):
        run_config("mine.py")
    with pytest.raises(MgmaeError, match=r"--config mine\.py:log: .*did you mean mine\.py:long\?"):
        run_config("mine.py:log")
    with pytest.raises(
        MgmaeError, match="give one of its rows, as in pretrain/mgmae:ssv2_vit_b; they are ssv2_vit_b, "
    ):
        run_config("pretrain/mgmae")


def test_a_file_may_read_what_stands_behind_the_colon(elsewhere: Path):
    (elsewhere / "mine.py").write_text(
        MINE.replace("get_config():", "get_config(what):", 1).replace("3.0", "float(what)")
    )
    assert run_config("mine.py:7").train.epochs == 7
    with pytest.raises(FileError, match=r"mine\.py: TypeError: get_config\(\) missing 1 required"):
        run_config("mine.py")


@pytest.mark.parametrize(
    ("value", "near"),
    [
        ("dmo", "demo"),
        ("pretrain/ssv2_vitb", "pretrain/ssv2_vit_b"),
        ("ssv2_vit_b", "pretrain/ssv2_vit_b"),
        ("configs/pretrain/foldr.py", "pretrain/folder"),
        ("/app/configs/pretrain/folder.py", "pretrain/folder"),
        ("configs/common.py", "pretrain/common"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest_and_all_others(value: str, near: str):
    with pytest.raises(MgmaeError) as told:
        run_config(value)
    first, *others = str(told.value).splitlines()
    assert first.startswith(f"--config {value}: no such config or Python file; did you mean ")
    assert near in first
    listed = {line.strip().partition(": ")[0]: line.partition(": ")[2].split(", ") for line in others}
    assert {folder + name for folder, names in listed.items() for name in names} == set(config_names())


def test_a_name_like_no_other_lists_them():
    with pytest.raises(
        MgmaeError, match=r"--config xyzzy: no such config or Python file\. The configs are\n  ablation/: "
    ):
        run_config("xyzzy")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("def get_config(:", r"SyntaxError: .*mine\.py, line 1"),
        ("\nimport no_such_module", r"line 2: ModuleNotFoundError: No module named 'no_such_module'"),
        (MINE.replace("config.train", "config.trian"), r'line 7: AttributeError: .*Did you mean "train"'),
        (MINE.replace("3.0", "'many'"), r"line 7: TypeError: .*epochs"),
        ("x = 1", r"has no get_config\(\)"),
    ],
)
def test_a_fault_in_a_file_is_told_with_its_line(elsewhere: Path, content: str, words: str):
    (elsewhere / "mine.py").write_text(content)
    with pytest.raises(FileError, match=rf"^mine\.py: {words}"):
        run_config("mine.py")


def test_the_package_of_configs_says_how_to_build_on_it():
    assert "from mgmae_jax.configs.pretrain import common" in configs.__doc__
