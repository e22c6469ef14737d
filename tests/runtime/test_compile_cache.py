import subprocess
import sys
from pathlib import Path

import jax
import pytest

from mgmae_jax.errors import FileError
from mgmae_jax.runtime.compile_cache import enable_compilation_cache

OPTIONS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture(autouse=True)
def settings_as_before(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    before = {name: getattr(jax.config, name) for name in OPTIONS}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_folder_is_that_of_the_environment_then_the_given_one_then_the_cache_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert enable_compilation_cache() == tmp_path / "xdg" / "mgmae_jax" / "xla"
    assert enable_compilation_cache(str(tmp_path / "given")) == tmp_path / "given"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "set"))
    assert enable_compilation_cache(str(tmp_path / "given")) == tmp_path / "set"
    assert (tmp_path / "set").is_dir()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "set")


def test_the_home_of_the_cache_without_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert enable_compilation_cache() == tmp_path / ".cache" / "mgmae_jax" / "xla"


def test_a_folder_that_cannot_be_made_is_an_error_that_says_what_to_set(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"file/xla: cannot hold .*\$JAX_COMPILATION_CACHE_DIR"):
        enable_compilation_cache(str(tmp_path / "file" / "xla"))


def test_a_second_process_reads_what_the_first_compiled_and_prints_nothing(tmp_path: Path):
    program = f"""
import jax, jax.numpy as jnp
from jax import monitoring
from mgmae_jax.runtime.compile_cache import enable_compilation_cache
enable_compilation_cache({str(tmp_path)!r})
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
hits = []
monitoring.register_event_listener(lambda event, **_: hits.append(event) if event.endswith("/cache_hits") else None)
jax.jit(lambda x: jnp.tanh(x @ x).sum())(jnp.ones((64, 64))).block_until_ready()
print(len(hits) > 0)
"""
    runs = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True) for _ in range(2)]
    assert [run.stdout.split() for run in runs] == [["False"], ["True"]], runs[1].stderr
    assert [run.stderr for run in runs] == ["", ""]
