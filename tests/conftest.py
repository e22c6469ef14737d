"""A strict session: eight CPU devices, no silent promotion of types or ranks, warnings are errors, no network.

The environment is set before anything imports jax, so this file must be the first to be imported.
"""

import atexit
import ctypes
import gc
import os
import resource
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        # Most of a test's time goes into compiling programs that run once.
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
    ]
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if "PYTEST_XDIST_WORKER" not in os.environ:  # its workers share the folder
    os.environ["MGMAE_CACHE"] = tempfile.mkdtemp(prefix="mgmae_jax_tests_")
    atexit.register(shutil.rmtree, os.environ["MGMAE_CACHE"], ignore_errors=True)

import jax
import jaxtyping
import pytest
from absl import flags
from hypothesis import settings

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
flags.FLAGS.mark_as_parsed()  # Grain's worker processes read absl flags.

# An example takes as long as the machine lets it: no test depends on the clock.
settings.register_profile("mgmae", deadline=None)
settings.load_profile("mgmae")

# Shapes and types in the signatures of the array code are checked while tests run.
jaxtyping.install_import_hook(
    ["mgmae_jax.ops", "mgmae_jax.masking", "mgmae_jax.flow", "mgmae_jax.models"], "beartype.beartype"
)


_MOST_GIB = 3.0


@pytest.fixture(autouse=True, scope="module")
def bounded_memory() -> Iterator[None]:
    """Lets go of compiled programs once there are many, which would make a worker grow to 9 GiB."""
    yield
    statm = Path("/proc/self/statm")
    if statm.exists() and int(statm.read_text().split()[1]) * resource.getpagesize() > _MOST_GIB * 2**30:
        jax.clear_caches()
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps what is freed otherwise
        if trim is not None:
            trim(0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting anywhere but to this machine fails."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else address
        if self.family != socket.AF_UNIX and host not in ("127.0.0.1", "::1", "localhost"):
            raise RuntimeError(f"a test tried to reach {address!r}: tests use no network")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
