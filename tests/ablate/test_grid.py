"""Grids: those that come with the project are all right, and what is wrong in one's own is told."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from mgmae_jax.ablate.cells import grid_cells
from mgmae_jax.ablate.grid import Configs, Grid, read_grid
from mgmae_jax.commands.config_file import load_config
from mgmae_jax.commands.config_names import config_names
from mgmae_jax.commands.flow import shard
from mgmae_jax.configs.ablation import common
from mgmae_jax.errors import ConfigError, MgmaeError
from mgmae_jax.train.finetune import build_finetuning
from mgmae_jax.train.pretrain import build_pretraining
from tests.ablate.run_grid import small_grid

GRIDS = [name for name in config_names() if name.startswith("ablation/")]
STEPS, LONG_STEPS = 1536, 7680


def read(name: str, **options: int) -> tuple[Grid, Configs]:
    return read_grid(name, load_config(name), load_config, **options)


def own(**changes: object) -> ConfigDict:
    config = common.get_config()
    config.update(changes)
    return config


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_of_the_project_can_run(name: str):
    grid, configs = read(name)
    assert grid.seeds == (12, 13, 14, 15, 16)
    for row in grid.rows:
        build_pretraining(configs.rows[row.name], 64)
    if configs.finetune is not None:
        build_finetuning(configs.finetune, 64)
        assert configs.finetune.model.name == configs.rows[grid.baseline].model.name
    assert {row.pretrain.steps for row in grid.rows} == ({STEPS, LONG_STEPS} if grid.name == "table3" else {STEPS})


def test_the_grids_of_the_paper_are_there():
    tables = [f"ablation/table1{letter}" for letter in "abcdef"]
    others = ["common", "main", "ratio", "table2", "table3", "figure3", "figure4", "exposure"]
    assert set(GRIDS) == {*tables, *(f"ablation/{name}" for name in others)}


def test_the_main_comparison_has_three_strategies_and_all_three_parts():
    grid, configs = read("ablation/main")
    assert [configs.rows[row.name].mask.strategy for row in grid.rows] == ["random", "tube", "tube", "motion"]
    assert grid.probe is not None
    assert grid.finetune is not None
    assert configs.probe.data.motion_shapes.test_videos == 1024


def test_grids_share_the_runs_that_they_have_in_common(tmp_path: Path):
    def runs(name: str) -> set[tuple[str, ...]]:
        cells = grid_cells(read(name)[0], tmp_path)
        return {part.argv for cell in cells for part in cell.parts if part.name != "evaluate"}

    assert runs("ablation/figure4") < runs("ablation/main")
    main, ratio = ({row.pretrain.folder for row in read(f"ablation/{name}")[0].rows} for name in ("main", "ratio"))
    assert len(main & ratio) == 3
    default = {row.pretrain.folder for row in read("ablation/table1a")[0].rows}
    for name in ("table1b", "table1c", "table1d", "table1e", "table1f", "figure3", "exposure"):
        assert len(default & {row.pretrain.folder for row in read(f"ablation/{name}")[0].rows}) == 1


def test_a_grid_survives_json():
    grid = read("ablation/table3")[0]
    assert Grid.from_json(grid.to_json()) == grid


def test_a_folder_is_named_by_what_was_changed_and_another_value_has_another():
    grid, _ = read_grid(
        "mine", own(rows=(("tube", "mask.strategy=tube"), ("as it is",), ("r", "mask.ratio=0.9"))), load_config
    )
    names = [row.pretrain.folder.rpartition("-") for row in grid.rows]
    assert [name[0] for name in names] == ["demo,strategy=tube", "demo", "demo,ratio=0.9"]
    other, _ = read_grid("mine", own(seed=100), load_config)
    assert other.rows[0].pretrain.folder == grid.rows[0].pretrain.folder  # the seed has a folder in it
    assert other.seeds[0] == 100


def test_a_grid_of_ones_own_has_a_title():
    with pytest.raises(ConfigError, match=r"config\.title=None: give a title"):
        read_grid("a/mine.py", own(), load_config)
    assert read_grid("a/mine.py", own(title="Mine"), load_config)[0].title == "Mine"
    assert read_grid("ablation/common", own(), load_config)[0].title == "ablation/common"


def test_a_field_that_a_later_version_adds_changes_no_folder():
    def later(name: str, overrides: Sequence[str]) -> ConfigDict:
        config = load_config(name, overrides)
        with config.unlocked():
            config.new = 1
        return config

    before, after = (read_grid("mine", own(), resolve)[0] for resolve in (load_config, later))
    assert [row.pretrain.folder for row in after.rows] == [row.pretrain.folder for row in before.rows]


def test_an_evaluation_by_class_follows_the_fine_tuning(tmp_path: Path):
    cell = grid_cells(small_grid(1, finetune=True, classes=True), tmp_path)[1]
    assert [part.name for part in cell.parts] == ["pretrain", "probe", "finetune", "evaluate"]
    assert cell.part("evaluate").needs == ("pretrain", "finetune")
    assert cell.part("finetune").argv[-2:] == ("--init", str(cell.folder / "pretrain"))


@given(st.integers(1, 9), st.integers(1, 7))
def test_shards_cover_each_cell_once(count: int, seeds: int):
    cells = grid_cells(small_grid(seeds), Path("out"))
    parts = [shard(cells, f"{part}/{count}") for part in range(count)]
    assert sorted(str(cell) for part in parts for cell in part) == sorted(map(str, cells))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": ()}, "config.rows=()"),
        ({"rows": (("tube",), ("tube", "mask.ratio=0.5"))}, "each with a name of its own"),
        ({"rows": (("random weights",),)}, "other than 'random weights'"),
        ({"rows": (("a", "mask.ratoi=0.5"),), "baseline": "a"}, "mine, row 'a': --config.mask.ratoi: the config has"),
        ({"rows": (("a",), ("b", "mask.strategy=motion")), "baseline": "a"}, "'a' and 'b' are the same run"),
        ({"baseline": "none"}, "config.baseline='none': give the name of a row: tube, motion guided"),
        ({"against": (("tube", "x"),)}, "config.against='x': give the name of a row"),
        ({"against": ("motion guided", "tube")}, "give pairs, as ((row, row to compare it with), ...)"),
        ({"rows": (("tube"), ("motion", "mask.strategy=motion"))}, 'rows as ("NAME", "FIELD=VALUE", ...)'),
        ({"rows": ((0.75,), (0.9, "mask.ratio=0.9")), "baseline": "0.75"}, 'rows as ("NAME", "FIELD=VALUE", ...)'),
        ({"axis": "ratio"}, "config.axis='ratio': give rows whose names are numbers"),
        ({"seeds": 0}, "config.seeds=0: give 1 to 20"),
        ({"seeds": 21}, "config.seeds=21"),
        ({"probe": {"config": "demo"}}, "config.kind='pretrain': give a config of kind 'probe'"),
        ({"probe": {"config": "prob"}}, "--config prob: no such config"),
        ({"kind": "probe"}, "config.kind='probe': give a config of kind 'ablation'"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_grid_is_told(changes: dict, message: str):
    config = own(**{name: value for name, value in changes.items() if not isinstance(value, dict)})
    for section, fields in changes.items():
        if isinstance(fields, dict):
            config[section].update(fields)
    with pytest.raises(MgmaeError) as told:
        read_grid("mine", config, load_config)
    assert message in str(told.value)


def test_a_misspelt_field_of_a_grid_is_told(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from mgmae_jax.configs.ablation import common\n\n\ndef get_config():\n    config = common.get_config()\n"
        "    with config.unlocked():\n        config.basline = 'tube'\n    return config\n"
    )
    with pytest.raises(MgmaeError, match=r'sets config.basline, .* has no field "basline"; did you mean "baseline"'):
        load_config(str(file), flag="--grid")
