import json
from pathlib import Path

import jax
import ml_collections
import pytest

from mgmae_jax.errors import FileError, MgmaeError
from mgmae_jax.runtime.run_info import check_same_config, write_run_info


def config(**changes: object) -> ml_collections.ConfigDict:
    made = ml_collections.ConfigDict(
        {"model": {"width": 384, "sizes": (1, 2)}, "data": {"workers": 8, "clips": 16}, "lr": 1e-3, "mesh": {"fsdp": 1}}
    )
    made.tokens = made.model.get_ref("width") * 2
    for name, value in changes.items():
        made.update_from_flattened_dict({name.replace("__", "."): value})
    return made


def test_the_workdir_says_config_versions_command_and_machine(tmp_path: Path):
    write_run_info(tmp_path / "run", config(), ["mgmae", "pretrain", "--config", "my config.py"])
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["tokens"] == 768
    assert saved["model"]["sizes"] == [1, 2]
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["command"] == "mgmae pretrain --config 'my config.py'"
    assert run["versions"]["jax"] == jax.__version__
    assert {"flax", "optax", "numpy", "mgmae_jax"} <= set(run["versions"])
    assert (run["devices"], run["processes"], run["platform"]) == (8, 1, "cpu")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.json", "run.json"]


def test_a_new_workdir_and_the_same_config_pass(tmp_path: Path):
    check_same_config(tmp_path, config())
    write_run_info(tmp_path, config(), [])
    check_same_config(tmp_path, config())


def test_another_config_is_an_error_that_lists_the_fields_and_says_what_to_do(tmp_path: Path):
    write_run_info(tmp_path, config(), [])
    other = config(lr=2e-3, model__width=768)
    other.extra = "new"
    with pytest.raises(MgmaeError) as caught:
        check_same_config(tmp_path, other)
    message = str(caught.value)
    assert message.splitlines()[1:-1] == [
        '  extra: (absent) there, "new" now',
        "  lr: 0.001 there, 0.002 now",
        "  model.width: 384 there, 768 now",
        "  tokens: 768 there, 1536 now",
    ]
    assert str(tmp_path) in message
    assert "--workdir" in message


def test_a_field_that_is_gone_differs_too(tmp_path: Path):
    write_run_info(tmp_path, config(), [])
    less = config()
    del less.lr
    with pytest.raises(MgmaeError, match=r"lr: 0.001 there, \(absent\) now"):
        check_same_config(tmp_path, less)


def test_machine_fields_may_differ_and_are_whole_names(tmp_path: Path):
    write_run_info(tmp_path, config(), [])
    other = config(data__workers=2, mesh__fsdp=4)
    check_same_config(tmp_path, other, machine_fields=("mesh", "data.workers"))
    with pytest.raises(MgmaeError, match=r"data\.workers: 8 there, 2 now"):
        check_same_config(tmp_path, other, machine_fields=("mesh", "data.work"))


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00\x01"])
def test_a_damaged_config_is_an_error_that_names_the_file(tmp_path: Path, text: str):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(FileError, match=r"config\.json: cannot be read"):
        check_same_config(tmp_path, config())


def test_a_workdir_that_cannot_be_written_to_is_an_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="give a writable folder"):
        write_run_info(tmp_path / "file" / "run", config(), [])
