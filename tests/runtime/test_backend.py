import os
import subprocess
import sys

import jax
import pytest

from mgmae_jax.errors import MgmaeError
from mgmae_jax.runtime.backend import available_platforms, check_backend


def run(**environ: str) -> subprocess.CompletedProcess:
    program = (
        "from mgmae_jax.errors import MgmaeError\nfrom mgmae_jax.runtime.backend import check_backend\n"
        "try:\n    check_backend()\nexcept MgmaeError as error:\n    raise SystemExit(f'told: {error}')"
    )
    before = {name: value for name, value in os.environ.items() if name not in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME")}
    env = before | environ
    return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "environ", [{"JAX_PLATFORMS": "cpuu"}, {"JAX_PLATFORMS": "cpu,cpuu"}, {"JAX_PLATFORM_NAME": "cpuu"}]
)
def test_a_backend_that_does_not_exist_is_told_with_the_variable_and_what_there_is(environ: dict[str, str]):
    ended = run(**environ)
    ((name, value),) = environ.items()
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if "told" in line]
    start = f"told: {name}={value}: JAX cannot start that here (no such backend is installed): give what is available,"
    assert line.startswith(start)
    assert "cpu" in line[len(start) :].split(" or unset ")[0]
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("value", ["", "cpu"])
def test_a_backend_that_exists_starts(value: str):
    assert run(JAX_PLATFORMS=value).returncode == 0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AssertionError(), "no GPU is visible"),
        (
            RuntimeError(
                "Unable to initialize backend 'tpu': INTERNAL: no libtpu.so (set JAX_PLATFORMS='' to automatically "
                "choose an available backend)"
            ),
            "Unable to initialize backend 'tpu': INTERNAL: no libtpu.so",
        ),
        (RuntimeError("first line.\nsecond"), "first line"),
    ],
)
def test_whatever_jax_raises_becomes_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str):
    def fail() -> None:
        raise error

    monkeypatch.setattr(jax, "devices", fail)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(MgmaeError) as told:
        check_backend()
    start = f"JAX_PLATFORMS=cuda: JAX cannot start that here ({reason}): give what is available, cpu, or unset"
    assert str(told.value).startswith(start)
    assert "\n" not in str(told.value)


def test_the_platforms_are_found_whatever_is_selected():
    selected = jax.config.values["jax_platforms"]
    assert available_platforms() == ["cpu"]
    assert jax.config.values["jax_platforms"] == selected
