import json
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from mgmae_jax.cli import main
from mgmae_jax.commands.config_file import COMMON, LOCAL_PATHS, SOURCE_PATHS, load_config, load_run_config
from mgmae_jax.commands.config_names import config_names
from mgmae_jax.errors import FileError, MgmaeError
from mgmae_jax.runtime.checkpoint import FOLDER


def mine(folder: Path, base: str, *lines: str) -> str:
    """A config of the user's, with lines that change `base`."""
    room, _, module = base.rpartition("/")
    package = ".".join(["mgmae_jax.configs", *filter(None, [room])])
    body = "".join(f"    {line}\n" for line in lines)
    path = folder / "mine.py"
    path.write_text(
        f"from {package} import {module}\nfrom ml_collections import ConfigDict\n\n\n"
        f"def get_config():\n    config = {module}.get_config()\n{body}    return config\n"
    )
    return str(path)


def flat(config: ConfigDict, section: str = "") -> dict[str, object]:
    """The values of all fields by their dotted names."""
    values: dict[str, object] = {}
    for name, value in config.items():
        values |= flat(value, f"{section}{name}.") if isinstance(value, ConfigDict) else {f"{section}{name}": value}
    return values


def test_a_file_may_change_every_field_that_there_is(tmp_path: Path):
    config = load_config(mine(tmp_path, "demo", "config.mask.ratio = 0.5", "config.flow.size = 96"))
    assert (config.mask.ratio, config.flow.size) == (0.5, 96)
    assert load_config(mine(tmp_path, "demo"), ["--config.mask.ratio=0.9"]).mask.ratio == 0.9


@pytest.mark.parametrize(
    ("base", "line", "words"),
    [
        ("demo", "config.train.epocs = 3", r"sets config\.train\.epocs.* kind 'pretrain' .*did you mean \"epochs\"\?"),
        ("pretrain/folder", "config.maks = ConfigDict()", r"config\.maks.*did you mean \"mask\"\?"),
        ("pretrain/folder", "config.mask.iters = 3", r"config\.mask\.iters.*did you mean \"flow\.iters\"\?"),
        ("finetune/common", "config.mask.strategy = 'tube'", r"config\.mask\.strategy.* kind 'finetune' has no field"),
        ("finetune/common", "config.mix.mixpu = 0.8", r"config\.mix\.mixpu.*did you mean \"mixup\"\?"),
        ("probe/common", "config.probe.neighbors = 5", r"config\.probe\.neighbors.*did you mean \"neighbours\"\?"),
        ("flow/raft_small", "config.validate.pair = 5", r"config\.validate\.pair.*did you mean \"pairs\"\?"),
        ("demo", "config.mesh.xyzzy = 1", r"has no field \"xyzzy\"; the fields of config\.mesh are fsdp\."),
        ("demo", "config.kind = 'pretian'", r"config\.kind='pretian': give one of pretrain, finetune, probe, flow"),
    ],
)  # fmt: skip
def test_a_field_that_no_common_config_has_is_told(tmp_path: Path, base: str, line: str, words: str):
    path = mine(tmp_path, base, line)
    with pytest.raises(FileError, match=words) as told:
        load_config(path)
    assert str(told.value).startswith(f"{path}: ")


def test_a_config_from_before_kinds_is_of_the_kind_that_it_looks_like(tmp_path: Path):
    path = mine(tmp_path, "finetune/common", "del config.kind")
    assert load_config(path).model.classes == 174
    with pytest.raises(FileError, match="a config of kind 'finetune' has no field"):
        load_config(mine(tmp_path, "finetune/common", "del config.kind", "config.mix.ratio = 1"))


@pytest.mark.parametrize(
    "command",
    [
        "pretrain --workdir {}", "finetune --workdir {}", "train-flow --workdir {}", "probe --checkpoint {}",
        "explore --motion-shapes pushed_right --out {}.html", "plan --on v5e:8x8", "bench step", "bench masking",
        "bench guess", "bench overfit",
    ],
)  # fmt: skip
def test_a_config_for_another_command_is_told(tmp_path: Path, capsys: pytest.CaptureFixture, command: str):
    words = command.format(tmp_path / "out").split()
    assert main([*words, "--config", "ablation/main"]) == 1
    assert "config.kind='ablation': give a config of kind '" in capsys.readouterr().err


def test_what_is_not_a_config_dict_is_told(tmp_path: Path):
    (tmp_path / "mine.py").write_text("def get_config():\n    return {}\n")
    with pytest.raises(FileError, match=r"its get_config\(\) gives a dict, not an ml_collections\.ConfigDict"):
        load_config(str(tmp_path / "mine.py"))


def test_every_kind_has_its_common_config():
    assert set(COMMON.values()) <= set(config_names())
    assert {load_config(name).kind: name for name in COMMON.values()} == COMMON


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.train.epocs=1", '--config.train.epocs: the config has no field "epocs"; did you mean "epochs"?'),
        ("--config.trian.epochs=1", '--config.trian.epochs: the config has no field "trian"; did you mean "train"?'),
        ("--config.ratio=1", '--config.ratio: the config has no field "ratio"; did you mean "mask.ratio"?'),
        ("--config.mask.ratio.x=1", 'the config has no field "x"; config.mask.ratio is a value.'),
        ("--config.train.epochs=many", "flag --config.train.epochs=many: could not convert string to float: 'many'."),
        ("--config.optim.b1[0]=1", "--config.optim.b1[0]: an item of a field cannot be changed alone: give the whole"),
        ("--config.data[0]=3", "--config.data[0]: is a section, with the fields"),
        ("--config.mask={}", "--config.mask: is a section, with the fields"),
        ("--config.mask", "--config.mask: is a section, with the fields"),
        ("--config.data.path", "--config.data.path: has no value: give it as --config.data.path=VALUE."),
        ("--config.flow.size", "--config.flow.size: has no value: give it as --config.flow.size=VALUE."),
        ("--bogus=1", "unknown argument '--bogus=1': a field of the config is changed by --config.FIELD=VALUE."),
    ],
)  # fmt: skip
def test_a_wrong_override_is_told(override: str, message: str):
    with pytest.raises(MgmaeError) as told:
        load_config("demo", [override])
    assert message in str(told.value)


def test_a_forgotten_value_is_not_taken_from_the_next_override():
    with pytest.raises(MgmaeError, match=r"^--config\.data\.path: has no value: give it as --config\.data\.path=VALUE"):
        load_config("demo", ["--config.data.path", "--config.seed=3"])
    config = load_config("demo", ["--config.model.remat", "--config.seed=3"])
    assert (config.model.remat, config.seed) == (True, 3)


def test_an_item_of_a_list_is_not_changed_alone():
    with pytest.raises(MgmaeError, match=r"steps\[0\]: .* give the whole field, as in --config.train.steps='\(1, 2\)'"):
        load_config("flow/raft_small", ["--config.train.steps[0]=5"])


def test_a_run_of_another_kind_has_no_preset(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps(load_config("finetune/common").to_dict()))
    (tmp_path / FOLDER / "3").mkdir(parents=True)
    with pytest.raises(MgmaeError, match=r'^--config\.mask\.preset: the config has no field "preset"'):
        load_run_config(tmp_path, ["--config.mask.preset=fast"])


def test_a_tuple_and_an_unset_field_are_changed():
    config = load_config("flow/raft_small", ["--config.train.steps=(1, 2, 3)"])
    assert config.train.steps == (1, 2, 3)
    assert load_config("pretrain/common", ["--config.flow.size=64"]).flow.size == 64


FIELDS = {
    field: name
    for field in (*LOCAL_PATHS, *SOURCE_PATHS)
    for name in COMMON.values()
    if field in flat(load_config(name))
}
"""The fields that are paths, each with a config that has it."""


def test_the_fields_that_are_paths_are_known():
    assert set(FIELDS) == {*LOCAL_PATHS, *SOURCE_PATHS}
    texts = {
        field: value
        for name in COMMON.values()
        for field, value in flat(load_config(name)).items()
        if value == "" or field.rpartition(".")[2] in ("path", "folder", "weights", "init", "compile_cache")
    }
    others = {"mask.init", "eval.weights", "augment.rand", "train.profile_steps"}
    assert set(texts) - others <= {*LOCAL_PATHS, *SOURCE_PATHS}


@pytest.mark.parametrize(("field", "name"), FIELDS.items())
def test_a_tilde_in_a_path_is_expanded_wherever_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, name: str
):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert flat(load_config(name, [f"--config.{field}=~/x/"]))[field] == f"{tmp_path}/x/"
    assert flat(load_config(mine(tmp_path, name, f"config.{field} = '~/x'")))[field] == f"{tmp_path}/x"
    assert flat(load_config(name, [f"--config.{field}=a/~/b"]))[field] == "a/~/b"
    run = tmp_path / "run"
    (run / FOLDER / "3").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps(load_config(name).to_dict()))
    assert flat(load_run_config(run, [f"--config.{field}=~/x"]))[field] == f"{tmp_path}/x"
    with pytest.raises(MgmaeError, match=rf"^config\.{field}='~no-such-user': there is no user 'no-such-user'"):
        load_config(name, [f"--config.{field}=~no-such-user"])


@pytest.mark.parametrize(("field", "name"), FIELDS.items())
def test_only_videos_may_be_in_a_bucket(field: str, name: str):
    override = f"--config.{field}=gs://bucket/x"
    if field in SOURCE_PATHS:
        assert flat(load_config(name, [override]))[field] == "gs://bucket/x"
        with pytest.raises(MgmaeError, match=rf"^config\.{field}='http://host/x': http:// cannot be read"):
            load_config(name, [f"--config.{field}=http://host/x"])
    else:
        with pytest.raises(MgmaeError, match=rf"^config\.{field}='gs://bucket/x': .* mount the bucket \(gcsfuse\)"):
            load_config(name, [override])


def test_a_config_file_is_found_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    mine(tmp_path, "demo", "config.seed = 7")
    assert load_config("~/mine.py").seed == 7


def test_a_preset_fills_in_what_is_open_and_a_flag_wins():
    def chosen(*overrides: str) -> tuple:
        config = load_config("pretrain/ssv2_vit_b", overrides)
        return config.mask.warp, config.flow.size, config.flow.iters

    assert chosen() == ("trajectory", 112, 3)
    assert chosen("--config.flow.iters=12", "--config.mask.warp=backward") == ("backward", 112, 12)
    assert chosen("--config.mask.preset=paper", "--config.flow.size=160") == ("backward", 160, 6)


def test_a_run_keeps_its_masks_until_another_preset_is_asked_for(tmp_path):
    config = load_config("pretrain/ssv2_vit_b", ["--config.flow.iters=5"])
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    (tmp_path / FOLDER / "3").mkdir(parents=True)

    def chosen(*overrides: str) -> tuple:
        run = load_run_config(tmp_path, overrides)
        return run.mask.warp, run.flow.size, run.flow.iters

    assert chosen() == ("trajectory", 112, 5)
    assert chosen("--config.mask.preset=paper") == ("backward", None, 6)
    assert chosen("--config.mask.preset=paper", "--config.flow.size=96") == ("backward", 96, 6)
