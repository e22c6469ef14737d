"""The flags that XLA gets on NVIDIA GPUs."""

import os
import subprocess
import sys

import pytest

from mgmae_jax.runtime.xla_flags import set_xla_flags

OURS = "--xla_gpu_enable_triton_gemm=false"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, OURS),
        ("--xla_dump_to=here", f"--xla_dump_to=here {OURS}"),
        ("--xla_gpu_enable_triton_gemm=true", "--xla_gpu_enable_triton_gemm=true"),  # the user's word is the last
        ("--xla_gpu_enable_triton_gemm", "--xla_gpu_enable_triton_gemm"),
    ],
)
def test_a_gpu_gets_the_flags_that_are_not_given(given, expected):
    environ = {} if given is None else {"XLA_FLAGS": given}
    set_xla_flags(environ, gpu=True)
    assert environ["XLA_FLAGS"] == expected


def test_without_a_gpu_nothing_is_changed():
    environ = {}
    set_xla_flags(environ, gpu=False)
    assert environ == {}


def test_xla_knows_the_flags():
    program = "import jax; print(jax.jit(lambda x: x + 1)(1))"
    environ = os.environ | {"JAX_PLATFORMS": "cpu"}
    set_xla_flags(environ, gpu=True)
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "2"), done.stderr
    environ["XLA_FLAGS"] = "--xla_gpu_enable_triton_gemms=false"  # XLA stops at a flag that it does not know
    assert subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, timeout=120).returncode
