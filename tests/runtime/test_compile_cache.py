import subprocess
import sys
from pathlib import Path

import jax
import pytest

from mgmae_jax.errors import FileError, MgmaeError
from mgmae_jax.runtime.compile_cache import enable_compilation_cache

OPTIONS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture(autouse=True)
def settings_as_before(monkeypatch: pytest.MonkeyPatch):
    for name in ("JAX_COMPILATION_CACHE_DIR", "MGMAE_CACHE"):
        monkeypatch.delenv(name, raising=False)
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


def test_a_folder_below_a_file_is_told_with_the_variable_that_gave_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MGMAE_CACHE", str(tmp_path / "file"))
    with pytest.raises(FileError, match=r"file/xla: cannot hold .*set \$JAX_COMPILATION_CACHE_DIR or \$MGMAE_CACHE to"):
        enable_compilation_cache()
    with pytest.raises(FileError, match=r"file/x: .*set \$JAX_COMPILATION_CACHE_DIR or config.compile_cache to"):
        enable_compilation_cache(str(tmp_path / "file" / "x"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(FileError, match=r"file: .*set \$JAX_COMPILATION_CACHE_DIR to"):
        enable_compilation_cache()


def test_a_folder_that_is_given_needs_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert enable_compilation_cache(str(tmp_path / "given")) == tmp_path / "given"
    with pytest.raises(MgmaeError, match=r"the home folder is not known .* set \$MGMAE_CACHE"):
        enable_compilation_cache()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "set"))
    assert enable_compilation_cache() == tmp_path / "set"


def test_a_bucket_is_refused_with_what_gave_it(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(MgmaeError, match=r"^config.compile_cache='gs://bucket': .* mount the bucket"):
        enable_compilation_cache("gs://bucket")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "gs://bucket")
    with pytest.raises(MgmaeError, match=r"^\$JAX_COMPILATION_CACHE_DIR='gs://bucket': .* mount the bucket"):
        enable_compilation_cache()


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
