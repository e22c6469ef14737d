"""A run that was begun before a config field existed resumes."""

import json
from pathlib import Path

import pytest

from mgmae_jax.commands.config_file import COMMON, load_config
from mgmae_jax.errors import MgmaeError
from mgmae_jax.runtime.config_history import ADDED
from mgmae_jax.runtime.run_info import check_same_config, flat_fields, write_run_info

FIRST = json.loads((Path(__file__).parents[1] / "golden" / "first_config_fields.json").read_text())
"""The fields of the first configs that runs could be resumed with, by kind."""


@pytest.mark.parametrize("kind", FIRST)
def test_every_later_field_is_listed_with_its_default(kind: str):
    config = load_config(COMMON[kind])
    defaults = flat_fields(json.loads(json.dumps(config.to_dict())))
    later = {name: value for name, value in defaults.items() if name not in FIRST[kind]}
    assert later == {name: json.dumps(value) for name, value in ADDED.get(kind, {}).items()}


def test_a_run_begun_before_a_field_resumes_if_it_is_what_it_was(tmp_path: Path):
    config = load_config("demo")
    write_run_info(tmp_path, config, [])
    path = tmp_path / "config.json"
    saved = json.loads(path.read_text())
    del saved["mask"]["decoder"], saved["mask"]["keep"]
    path.write_text(json.dumps(saved))
    assert check_same_config(tmp_path, config) == []
    config.mask.decoder = "running_cell"
    with pytest.raises(MgmaeError, match=r'mask\.decoder: "all" there, "running_cell" now'):
        check_same_config(tmp_path, config)
