import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from mgmae_jax.errors import FileError
from mgmae_jax.runtime.checkpoint import Checkpoints, find_checkpoint, restore_params
from mgmae_jax.runtime.mesh import make_mesh, tree_shardings


@flax.struct.dataclass
class State:
    step: jax.Array
    params: Any
    opt_state: Any


def make_state(seed: int = 0, width: int = 512) -> State:
    keys = jax.random.split(jax.random.key(seed), 3)
    params = {
        "encoder": {"kernel": jax.random.normal(keys[0], (256, width)), "bias": jax.random.normal(keys[1], (width,))},
        "table": jax.random.normal(keys[2], (512, 256), jnp.bfloat16),
    }
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3, mu_dtype=jnp.bfloat16))
    return State(step=jnp.int32(seed), params=params, opt_state=optimiser.init(params))


def abstract(state: Any, mesh: Mesh) -> Any:
    shapes = jax.eval_shape(lambda: state)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        tree_shardings(mesh, shapes),
    )


def assert_same(found: Any, want: Any) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(want)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
        assert one.dtype == other.dtype
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def steps_in(folder: Path) -> list[int]:
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit())


SMALL = {"params": {"w": np.arange(4, dtype=np.float32)}}


def small(step: int) -> dict[str, Any]:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf) + np.float32(step), SMALL)


@pytest.mark.parametrize("target", ["fsdp=1", "fsdp=4", "one device"])
def test_a_sharded_state_comes_back_bit_for_bit_on_any_mesh(tmp_path: Path, target: str):
    saved_on = make_mesh(fsdp=4)
    state = make_state()
    state = jax.device_put(state, tree_shardings(saved_on, state))
    with Checkpoints(tmp_path, every=1, keep=1) as checkpoints:
        assert checkpoints.save(7, state, {"flow": "sha", "clips": 3})
    mesh = {"fsdp=1": make_mesh(1), "fsdp=4": saved_on, "one device": make_mesh(devices=jax.devices()[:1])}[target]
    wanted = abstract(state, mesh)
    with Checkpoints(tmp_path, every=1, keep=1) as checkpoints:
        assert checkpoints.latest_step() == 7
        assert checkpoints.metadata(7) == {"flow": "sha", "clips": 3}
        found = checkpoints.restore(wanted)
    assert_same(found, state)
    for leaf, want in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert leaf.sharding == want.sharding
    kernel = found.params["encoder"]["kernel"].addressable_shards[0].data
    assert kernel.shape == ((256, 128) if target == "fsdp=4" else (256, 512))


def test_the_state_may_be_donated_while_it_is_being_saved(tmp_path: Path):
    update = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf * 0 - 1, state), donate_argnums=0)
    state = {"w": jnp.arange(500_000, dtype=jnp.float32)}
    wanted = abstract(state, make_mesh(devices=jax.devices()[:1]))
    with Checkpoints(tmp_path, every=1, keep=1) as checkpoints:
        checkpoints.save(1, state, {})
        for _ in range(10):
            state = update(state)
        state["w"].block_until_ready()
        np.testing.assert_array_equal(checkpoints.restore(wanted)["w"], np.arange(500_000, dtype=np.float32))


def test_the_policy_says_what_is_saved_and_what_is_kept(tmp_path: Path):
    with Checkpoints(tmp_path, every=2, keep=2, keep_period=4) as checkpoints:
        began = [step for step in range(1, 12) if checkpoints.save(step, small(step), {})]
        assert began == [step for step in range(1, 12) if checkpoints.due(step)] == [2, 4, 6, 8, 10]
        assert checkpoints.save(11, small(11), {}, force=True)
        assert not checkpoints.save(11, small(11), {}, force=True)  # saved already
    assert steps_in(tmp_path) == [4, 8, 10, 11]
    with Checkpoints(tmp_path, every=2, keep=2, keep_period=4) as checkpoints:
        assert not checkpoints.save(10, small(10), {})
        wanted = abstract(small(0), make_mesh())
        np.testing.assert_array_equal(checkpoints.restore(wanted, step=4)["params"]["w"], [4, 5, 6, 7])


def test_no_checkpoint_is_an_error_that_names_the_folder_and_the_steps(tmp_path: Path):
    wanted = abstract(small(0), make_mesh())
    with Checkpoints(tmp_path / "a" / "b", every=1, keep=3) as checkpoints:
        assert checkpoints.latest_step() is None
        with pytest.raises(FileError, match=r"a/b: holds no checkpoint; .* none"):
            checkpoints.restore(wanted)
        checkpoints.save(3, small(3), {})
        with pytest.raises(FileError, match=r"no checkpoint of step 2; the steps there are \[3\]"):
            checkpoints.restore(wanted, step=2)
        with pytest.raises(FileError, match="of step 4"):
            checkpoints.metadata(4)


def test_another_model_is_an_error_that_names_the_tensors(tmp_path: Path):
    with Checkpoints(tmp_path, every=1, keep=1) as checkpoints:
        checkpoints.save(1, make_state(), {})
        other = make_state(width=384)
        other.params["head"] = jnp.zeros(3)
        del other.params["table"]
        with pytest.raises(FileError) as caught:
            checkpoints.restore(abstract(other, make_mesh()))
    message = str(caught.value)
    assert str(tmp_path / "1") in message
    assert "params/encoder/bias is float32[512], the model needs float32[384]" in message
    assert "params/head is absent, the model needs float32[3]" in message
    assert "more. Give the config" in message


def test_another_dtype_is_an_error_in_a_state_and_converted_in_parameters_alone(tmp_path: Path):
    with Checkpoints(tmp_path / "checkpoints", every=1, keep=1) as checkpoints:
        checkpoints.save(1, small(0), {})
        half = abstract({"params": {"w": jnp.zeros(4, jnp.bfloat16)}}, make_mesh())
        with pytest.raises(FileError, match=r"params/w is float32\[4\], the model needs bfloat16\[4\]"):
            checkpoints.restore(half)
    assert restore_params(tmp_path, half["params"])["w"].dtype == jnp.bfloat16


def test_parameters_alone_are_read_from_a_workdir_a_folder_or_a_checkpoint(tmp_path: Path):
    folder = tmp_path / "checkpoints"
    state = make_state(5)
    with Checkpoints(folder, every=1, keep=2) as checkpoints:
        checkpoints.save(9, make_state(4), {})
        checkpoints.save(10, state, {})
    (folder / "12.orbax-checkpoint-tmp").mkdir()  # a save under way
    wanted = abstract(state.params, make_mesh(fsdp=4))
    for path in (tmp_path, folder, folder / "10"):
        assert find_checkpoint(path) == folder / "10"
        assert_same(restore_params(path, wanted), state.params)
    assert (folder / "12.orbax-checkpoint-tmp").is_dir()
    (folder / "10").rename(tmp_path / "best")
    assert_same(restore_params(tmp_path / "best", {"table": wanted["table"]}), {"table": state.params["table"]})
    with pytest.raises(FileError, match=r"params/head is absent, the model needs float32\[3\]"):
        restore_params(folder / "9", {"head": jax.ShapeDtypeStruct((3,), jnp.float32)})


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no-such", "no-such: no such file or folder: give a workdir"),
        ("empty", "empty: holds no checkpoint: give a workdir, .* steps$"),
        ("torch", r"torch: holds no checkpoint: give a workdir, .* steps; or the file of .* weights: model_best\.pth$"),
        ("file", "file: holds no checkpoint: give a workdir, .* steps$"),
    ],
)
def test_a_path_without_a_checkpoint_is_an_error(tmp_path: Path, path: str, message: str):
    for folder in ("empty", "torch", "file/checkpoints"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "torch" / "model_best.pth").touch()
    (tmp_path / "file" / "checkpoints" / "6").touch()
    (tmp_path / "file" / "checkpoints" / "²").mkdir()
    with pytest.raises(FileError, match=message):
        find_checkpoint(tmp_path / path)


def test_a_damaged_checkpoint_is_an_error_that_names_it(tmp_path: Path):
    wanted = abstract(small(0), make_mesh())
    with Checkpoints(tmp_path, every=1, keep=2) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, small(step), {})
        checkpoints.wait()
        for path in (tmp_path / "1" / "state").rglob("d/*"):
            path.write_bytes(b"\0" * path.stat().st_size)
        with pytest.raises(FileError, match=f"{tmp_path}/1: is damaged"):
            checkpoints.restore(wanted, step=1)
        (tmp_path / "2" / "state" / "_METADATA").write_text("{")
        with pytest.raises(FileError, match=f"{tmp_path}/2: is damaged"):
            checkpoints.restore(wanted, step=2)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"file/checkpoints: cannot hold checkpoints \(Not a directory\)"):
        Checkpoints(tmp_path / "file" / "checkpoints", every=1, keep=1)


@pytest.fixture
def little_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2.5 MB."""
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2500k", "tmpfs", str(tmp_path)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"may not mount a small file system: {made.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


@pytest.mark.parametrize("then", ["wait", "save", "close", "latest_step"])
def test_a_full_disk_is_told_at_the_next_call_and_the_checkpoint_before_is_kept(
    little_disk: Path, then: str, capfd: pytest.CaptureFixture
):
    noise = np.random.default_rng(0).normal(size=400_000).astype(np.float32)  # 1.5 MB: there is room for one
    state = {"w": jnp.asarray(noise)}
    folder = little_disk / "checkpoints"
    checkpoints = Checkpoints(folder, every=2, keep=1)
    checkpoints.save(2, state, {})
    checkpoints.wait()
    checkpoints.save(4, {"w": state["w"] * 2}, {})
    calls = {"save": lambda: checkpoints.save(6, state, {})}
    with pytest.raises(FileError, match=r"step 4 .* No space left .*resumes from step 2") as caught:
        calls.get(then, getattr(checkpoints, then))()
    assert caught.value.path == str(folder)
    assert checkpoints.latest_step() == 2
    checkpoints.close()
    assert capfd.readouterr().err == ""
    assert steps_in(folder) == [2]
    with Checkpoints(folder, every=2, keep=1) as again:
        np.testing.assert_array_equal(again.restore(abstract(state, make_mesh()))["w"], noise)
        again.save(4, {"w": jnp.zeros(3)}, {})
    assert sorted(path.name for path in folder.iterdir()) == ["4"]


def test_an_error_on_its_way_out_is_not_replaced_by_that_of_the_save(little_disk: Path):
    state = {"w": jnp.asarray(np.random.default_rng(0).normal(size=800_000).astype(np.float32))}

    def train() -> None:
        with Checkpoints(little_disk, every=1, keep=1) as checkpoints:
            checkpoints.save(1, state, {})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()


KILLED = """
import os, signal, sys
import numpy as np, jax.numpy as jnp
from mgmae_jax.runtime.checkpoint import Checkpoints

checkpoints = Checkpoints(sys.argv[1], every=1, keep=3)
checkpoints.save(1, {"w": jnp.arange(4.0)}, {})
checkpoints.wait()

def killed(*paths, **options):
    os.kill(os.getpid(), signal.SIGKILL)
os.rename = os.replace = killed
checkpoints.save(2, {"w": jnp.arange(4.0) + 1}, {})
checkpoints.wait()
"""


def test_a_save_cut_off_by_sigkill_is_ignored_and_cleaned_up(tmp_path: Path):
    run = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == 2, left
    assert steps_in(tmp_path) == [1]
    assert find_checkpoint(tmp_path) == tmp_path / "1"
    state = {"w": jnp.arange(4.0)}
    with Checkpoints(tmp_path, every=1, keep=3) as checkpoints:
        assert checkpoints.latest_step() == 1
        assert_same(checkpoints.restore(abstract(state, make_mesh())), state)
        checkpoints.save(2, state, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_sigterm_makes_a_run_preempted_and_the_former_handler_comes_back(tmp_path: Path):
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append("former"))
    try:
        with Checkpoints(tmp_path, every=100, keep=1) as checkpoints:
            assert not checkpoints.preempted()
            os.kill(os.getpid(), signal.SIGTERM)
            assert checkpoints.preempted()
            assert checkpoints.save(2, small(2), {}, force=True)
        assert seen == []
        os.kill(os.getpid(), signal.SIGTERM)
        assert seen == ["former"]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert steps_in(tmp_path) == [2]


def test_sigterm_reaches_the_checkpoints_outside_of_others(tmp_path: Path):
    with Checkpoints(tmp_path / "last", every=1, keep=1) as last:
        with Checkpoints(tmp_path / "best", every=1, keep=1):
            os.kill(os.getpid(), signal.SIGTERM)
            assert last.preempted()
        assert last.preempted()


def test_a_save_asks_nobody_for_a_sigterm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """JAX agrees on the number after the last one that it was asked with, and only `Preemption` knows its numbers."""
    asked = []
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", lambda step: asked.append(step) or False)
    with Checkpoints(tmp_path, every=1, keep=1) as checkpoints:
        for step in (1, 2):
            assert checkpoints.save(step, small(step), {})
    assert steps_in(tmp_path) == [2]
    assert asked == []
