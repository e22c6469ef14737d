"""A workdir belongs to one run: opened, locked, bound, resumed."""

import errno
import json
import re
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from mgmae_jax.errors import FileError, MgmaeError
from mgmae_jax.runtime import checkpoint
from mgmae_jax.runtime.mesh import make_mesh
from mgmae_jax.runtime.session import LOCK, claimed, open_run

CONFIG = {"kind": "pretrain", "seed": 3, "lr": 0.1, "checkpoint": {"every": 2, "keep": 2}}


def init(key: jax.Array, *loaded: Any) -> dict[str, jax.Array]:
    drawn = jax.random.normal(key, (8,))
    return {"weight": loaded[0] if loaded else drawn, "step": jnp.int32(0)}


def opened(workdir: Path, **options: Any):
    config = ConfigDict(CONFIG | options.pop("fields", {}))
    return open_run(workdir, config, ["mgmae", "test"], init, 5, make_mesh(), **options)


def advance(run: Any, step: int) -> None:
    run.checkpoints.save(step, run.state | {"step": jnp.int32(step)}, dict(run.identity), force=True)


def test_a_new_run_starts_at_0_and_an_interrupted_one_at_its_last_checkpoint(tmp_path: Path):
    with opened(tmp_path) as run:
        assert (run.start, run.total, run.finished) == (0, 5, False)
        first = np.asarray(run.state["weight"])
        for step in (2, 4):
            run.writer.write(step, {"loss": 1.0})
        advance(run, 2)
    with opened(tmp_path) as run:
        assert (run.start, int(run.state["step"])) == (2, 2)
        np.testing.assert_array_equal(run.state["weight"], first)
        advance(run, 5)
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2]  # what came after the checkpoint will be written again
    with opened(tmp_path) as run:
        assert run.finished


def test_the_same_seed_gives_the_same_state_and_what_was_loaded_goes_in(tmp_path: Path):
    with opened(tmp_path / "a") as a, opened(tmp_path / "b") as b, opened(tmp_path / "c", fields={"seed": 4}) as c:
        np.testing.assert_array_equal(a.state["weight"], b.state["weight"])
        assert not np.array_equal(a.state["weight"], c.state["weight"])
    with opened(tmp_path / "d", load=lambda abstract: jnp.ones(abstract["weight"].shape)) as run:
        np.testing.assert_array_equal(run.state["weight"], 1)


def test_a_run_that_cannot_start_leaves_the_workdir_free(tmp_path: Path):
    def load(abstract: Any) -> Any:
        raise FileError("nowhere", "holds no checkpoint")

    with pytest.raises(FileError, match="nowhere"), opened(tmp_path, load=load):
        pass
    assert not (tmp_path / "config.json").exists()
    with opened(tmp_path, fields={"lr": 0.2}) as run:
        assert run.start == 0


def test_a_run_without_a_checkpoint_may_start_anew_with_another_config(tmp_path: Path):
    with opened(tmp_path) as run:
        run.writer.write(1, {"loss": 1.0})
    with opened(tmp_path, fields={"lr": 0.2}) as run:
        assert run.start == 0
        advance(run, 2)
    assert json.loads((tmp_path / "config.json").read_text())["lr"] == 0.2
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_another_config_is_refused(tmp_path: Path):
    with opened(tmp_path) as run:
        advance(run, 2)
    with pytest.raises(MgmaeError, match=r"lr: 0\.1 there, 0\.2 now"), opened(tmp_path, fields={"lr": 0.2}):
        pass
    with opened(tmp_path, fields={"lr": 0.2}, machine_fields=("lr",)):
        pass


def test_a_run_of_before_there_was_a_trace_resumes_with_one(tmp_path: Path):
    with opened(tmp_path, fields={"train": {"epochs": 3}}) as run:
        advance(run, 2)
    with opened(tmp_path, fields={"train": {"epochs": 3, "profile_steps": "3:5"}}) as run:
        assert run.start == 2


def test_a_workdir_of_before_configs_said_what_they_are_for_is_resumed(tmp_path: Path):
    fields = {"mask": {"ratio": 0.9}}
    with opened(tmp_path, fields=fields) as run:
        advance(run, 2)
    path = tmp_path / "config.json"
    saved = json.loads(path.read_text())
    del saved["kind"]
    path.write_text(json.dumps(saved))
    with opened(tmp_path, fields=fields) as run:
        assert run.start == 2


def test_what_the_run_began_with_must_be_the_same(tmp_path: Path):
    identity = {"flow_weights": "abc", "videos": "3 videos, 12"}
    with opened(tmp_path, identity=identity) as run:
        advance(run, 2)
    want = r"holds a run with flow weights abc, and this one has def: give what the run began with, another --work"
    with pytest.raises(MgmaeError, match=want), opened(tmp_path, identity=identity | {"flow_weights": "def"}):
        pass
    # A checkpoint of an earlier version does not know all of it.
    with opened(tmp_path, identity=identity | {"new": 1}) as run:
        assert run.start == 2


def test_a_change_that_is_allowed_is_made_and_recorded(tmp_path: Path):
    identity = {"video_list": "3 videos, 12"}
    with opened(tmp_path, fields={"optim": {"lr": 0.1, "b1": 0.9}}, identity=identity) as run:
        advance(run, 2)
    changed: dict[str, Any] = {"fields": {"lr": 0.3, "optim": {"lr": 0.2, "b1": 0.9}}}
    want = r"lr: 0\.1 there, 0\.3 now\n.*or --allow-change lr optim\.lr to resume it changed"
    with pytest.raises(MgmaeError, match=re.compile(want, re.DOTALL)), opened(tmp_path, **changed):
        pass
    with pytest.raises(MgmaeError, match=r"optim\.lr"), opened(tmp_path, **changed, allow_change=["lr"]):
        pass
    changed["identity"] = {"video_list": "4 videos, 34"}
    refused = pytest.raises(MgmaeError, match="--allow-change video_list")
    with refused, opened(tmp_path, **changed, allow_change=["lr", "optim"]):
        pass
    with opened(tmp_path, **changed, allow_change=["lr", "optim", "video_list"]) as run:
        assert run.start == 2
        advance(run, 4)
    recorded = [
        "step 2: lr: 0.1 before, 0.3 now",
        "step 2: optim.lr: 0.1 before, 0.2 now",
        "step 2: video_list: 3 videos, 12 before, 4 videos, 34 now",
    ]
    assert json.loads((tmp_path / "run.json").read_text())["changes"] == recorded
    with opened(tmp_path, **changed):  # from now on this is the run's config
        pass
    assert json.loads((tmp_path / "run.json").read_text())["changes"] == recorded


def test_two_runs_do_not_share_a_workdir(tmp_path: Path):
    with opened(tmp_path):
        want = r"is in use by process \d+ on .+: wait for it or stop it, or give another --workdir"
        with pytest.raises(MgmaeError, match=want), opened(tmp_path):
            pass
    with opened(tmp_path):
        assert (tmp_path / LOCK).exists()


def test_a_folder_that_cannot_be_written_to_is_named_with_its_flag(tmp_path: Path):
    (tmp_path / "file").touch()
    want = r"cannot be written to \(it is, or is below, a file\): give a --out that you can write to"
    for folder in (tmp_path / "file" / "out", tmp_path / "file"):
        with pytest.raises(FileError, match=want) as told, claimed(folder, ConfigDict(CONFIG), (), "--out"):
            pass
        assert told.value.path == str(folder)


def damage(checkpoint: Path, what: str) -> None:
    """Truncates the tensors, or the description, of a checkpoint."""
    files = [path for path in checkpoint.rglob("*") if path.is_file() and (what == "all" or path.name == what)]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[:3])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax leaves coroutines behind
@pytest.mark.parametrize("what", ["all", "_METADATA", "manifest.ocdbt", "_CHECKPOINT_METADATA"])
def test_a_damaged_checkpoint_is_left_out_and_the_one_before_it_is_used(tmp_path: Path, what: str, capsys):
    with opened(tmp_path) as run:
        for step in (2, 4):
            advance(run, step)
    damage(tmp_path / "checkpoints" / "4", what)
    with opened(tmp_path) as run:
        assert (run.start, int(run.state["step"])) == (2, 2)
        advance(run, 4)
    told = capsys.readouterr().err
    assert f"{tmp_path}/checkpoints/4: is damaged (" in told
    assert f"it is now {tmp_path}/checkpoints/4.damaged: resuming from step 2" in told
    damage(tmp_path / "checkpoints" / "4", what)
    with opened(tmp_path) as run:
        assert run.start == 2
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"2", "4.damaged", "4.damaged1"}


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (OSError(errno.EIO, "read"), (FileError, r"checkpoints/4: cannot be read now \(Input/output error\)")),
        (ValueError("Error opening file [OS error 13: EACCES denied]"), (FileError, r"now \(Permission denied\)")),
        (MemoryError("16 GiB"), (MemoryError, "checkpoints/4: 16 GiB")),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), (MemoryError, "checkpoints/4: RESOURCE_EXHAUSTED: Out of")),
    ],
)
def test_a_checkpoint_that_cannot_be_read_now_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, told: tuple[type, str]
):
    with opened(tmp_path) as run:
        for step in (2, 4):
            advance(run, step)

    def fails(*_: object) -> None:
        raise ValueError("reading failed") from raised

    with monkeypatch.context() as failing:
        failing.setattr(checkpoint.ocp, "load", fails)
        with pytest.raises(told[0], match=told[1]), opened(tmp_path):
            pass
    with opened(tmp_path) as run:
        assert run.start == 4


@pytest.mark.parametrize("unknown", ["metadata", "init_timestamp_nsecs"])
def test_neither_does_one_whose_description_cannot_be_read_now(tmp_path: Path, monkeypatch, unknown: str):
    with opened(tmp_path) as run:
        for step in (2, 4):
            advance(run, step)

    def unread(path: Path) -> Any:
        """What Orbax gives, whatever the error was."""
        return types.SimpleNamespace(**{"metadata": {}, "init_timestamp_nsecs": 1, unknown: None})

    def fails(path: Path) -> bytes:
        raise OSError(errno.ESTALE, "read")

    with monkeypatch.context() as failing:
        failing.setattr(checkpoint.ocp, "metadata", unread)
        failing.setattr(Path, "read_bytes", fails)
        with (
            pytest.raises(FileError, match=r"checkpoints/4: cannot be read now \(Stale file handle\)"),
            opened(tmp_path),
        ):
            pass
    with opened(tmp_path) as run:
        assert run.start == 4


def test_a_run_whose_only_checkpoint_is_damaged_does_not_start_again_by_itself(tmp_path: Path):
    with opened(tmp_path) as run:
        advance(run, 2)
    damage(tmp_path / "checkpoints" / "2", "all")
    with (
        pytest.raises(
            FileError, match=r"/2: is damaged \(.*, and there is none before it: move it away to start again"
        ),
        opened(tmp_path),
    ):
        pass
    assert (tmp_path / "checkpoints" / "2").exists()
