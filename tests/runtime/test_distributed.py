import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mgmae_jax.errors import MgmaeError
from mgmae_jax.runtime.cluster import processes_from_environment
from mgmae_jax.runtime.distributed import initialize, wait_for_host
from tests.two_processes import free_port, two_processes

DEVICES = "--xla_force_host_platform_device_count=2"
GIVEN = {"JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}


def environment(port: int, count: int, index: int) -> dict[str, str]:
    """Two CPU devices in each of `count` processes on this machine."""
    return os.environ | {
        "XLA_FLAGS": DEVICES,
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": str(count),
        "JAX_PROCESS_ID": str(index),
    }


def run(program: str, env: Mapping[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60)


def both(program: str, *arguments: str) -> contextlib.AbstractContextManager[list[subprocess.Popen]]:
    """The two processes of a run of `program`, with two CPU devices each."""
    environ = os.environ | {"XLA_FLAGS": DEVICES}
    return two_processes([[sys.executable, "-c", program, *arguments]] * 2, environ, stdout=subprocess.PIPE)


@pytest.mark.parametrize(
    ("environ", "on_tpu_vm", "want"),
    [
        ({}, False, None),
        (GIVEN, False, {"coordinator_address": "10.0.0.1:1234", "num_processes": 4, "process_id": 3}),
        ({**GIVEN, "JAX_COORDINATOR_ADDRESS": "[::1]:1234", "SLURM_STEP_NUM_TASKS": "9"}, False, "[::1]:1234"),
        ({"SLURM_STEP_NUM_TASKS": "2"}, False, {}),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "8"}, False, None),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, False, None),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, False, {}),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, False, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True, {}),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, True, None),
        ({"TPU_WORKER_HOSTNAMES": "localhost", "MEGASCALE_NUM_SLICES": "2"}, True, {}),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "JAX_PLATFORMS": "cpu"}, True, None),
        ({}, True, {}),
        ({"TPU_SKIP_MDS_QUERY": "1"}, True, None),
    ],
)
def test_the_processes_of_a_run_are_found(environ: Mapping[str, str], on_tpu_vm: bool, want: object):
    found = processes_from_environment(environ, on_tpu_vm)
    assert (found["coordinator_address"] if isinstance(want, str) else found) == want


@pytest.mark.parametrize("missing", GIVEN)
def test_variables_that_are_incomplete_are_an_error_that_names_them(missing: str):
    environ = {name: value for name, value in GIVEN.items() if name != missing}
    with pytest.raises(MgmaeError, match=f"but not {missing}: set all three"):
        processes_from_environment(environ)


@pytest.mark.parametrize(
    "change",
    [
        {"JAX_COORDINATOR_ADDRESS": "host"},
        {"JAX_COORDINATOR_ADDRESS": ":12"},
        {"JAX_COORDINATOR_ADDRESS": "host:port"},
        {"JAX_COORDINATOR_ADDRESS": "host:0"},
        {"JAX_COORDINATOR_ADDRESS": "host:65536"},
        {"JAX_COORDINATOR_ADDRESS": "http://host:80"},
        {"JAX_COORDINATOR_ADDRESS": "my host:80"},
        {"JAX_NUM_PROCESSES": "0"},
        {"JAX_PROCESS_ID": "first"},
        {"JAX_NUM_PROCESSES": "two"},
        {"JAX_PROCESS_ID": "4"},
        {"JAX_PROCESS_ID": "-1"},
    ],
)
def test_variables_that_are_malformed_are_an_error_with_the_value(change: dict[str, str]):
    ((name, value),) = change.items()
    with pytest.raises(MgmaeError, match=f"{name}={value}"):
        processes_from_environment(GIVEN | change)


def test_without_any_sign_of_others_the_run_is_one_process(monkeypatch: pytest.MonkeyPatch):
    for name in (*GIVEN, "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    initialize()


class Names:
    """A name server with its own clock: "pod" is known after some seconds."""

    def __init__(self, known_after_s: float) -> None:
        self.now, self.asked, self._known_after_s = 0.0, [], known_after_s

    def resolve(self, host: str, port: None) -> None:
        self.asked.append(host)
        if self.now < self._known_after_s:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def wait(self, address: str, timeout_s: float) -> None:
        def sleep(seconds: float) -> None:
            self.now += seconds

        wait_for_host(address, timeout_s, self.resolve, lambda: self.now, sleep)


@pytest.mark.parametrize(("address", "host"), [("pod:1", "pod"), ("[::1]:1", "::1"), ("10.0.0.1:1", "10.0.0.1")])
def test_a_host_that_is_known_is_not_waited_for(capsys: pytest.CaptureFixture, address: str, host: str):
    names = Names(0)
    names.wait(address, 300)
    assert (names.asked, names.now) == ([host], 0)
    assert capsys.readouterr().err == ""


def test_a_host_that_is_not_known_yet_is_told_once_and_waited_for(capsys: pytest.CaptureFixture):
    names = Names(61)
    names.wait("pod-0.service:8476", 300)
    assert 61 <= names.now < 65
    assert capsys.readouterr().err == (
        "JAX_COORDINATOR_ADDRESS=pod-0.service:8476: the host name 'pod-0.service' does not resolve yet (Name or "
        "service not known): trying for 300 s (--start-timeout)\n"
    )


@pytest.mark.parametrize("timeout_s", [0, 7])
def test_a_host_that_stays_unknown_is_an_error_that_names_it(timeout_s: float):
    names = Names(1000)
    with pytest.raises(MgmaeError) as told:
        names.wait("no-such-node:23999", timeout_s)
    assert names.now == timeout_s
    assert str(told.value).startswith(
        "JAX_COORDINATOR_ADDRESS=no-such-node:23999: the host name 'no-such-node' does not resolve within "
        f"{timeout_s} s (--start-timeout): Name or service not known. Give the name or the IP address of process 0"
    )


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_what_cannot_be_a_host_is_not_waited_for(host: str):
    with pytest.raises(MgmaeError, match=f"the host name '{host}' does not resolve: "):
        wait_for_host(f"{host}:1", 300, sleep=lambda seconds: pytest.fail("waits"))


@pytest.mark.parametrize("name", ["SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"])
def test_half_an_environment_is_an_error_before_jax_reads_it(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv(name, "2")
    with pytest.raises(MgmaeError, match=f"^{name}='2' says .* for a run of one process unset {name}.$"):
        initialize()


ALONE = """
from mgmae_jax.errors import MgmaeError
from mgmae_jax.runtime.distributed import initialize
try:
    initialize(timeout_s=1)
except MgmaeError as error:
    raise SystemExit(f"told: {error}")
"""


@pytest.mark.parametrize("index", [0, 1])
def test_a_process_whose_peers_never_come_ends_with_a_message(index: int):
    port = free_port()
    ended = run(ALONE, environment(port, 2, index))
    assert ended.returncode == 1
    want = f"told: process {index} did not meet the other processes at 127.0.0.1:{port} within 1 s (--start-timeout): "
    assert want in ended.stderr


def test_a_port_that_is_taken_is_an_error_that_names_it():
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run(ALONE, environment(port, 2, 0))
    assert ended.returncode == 1
    assert f"told: JAX_COORDINATOR_ADDRESS=127.0.0.1:{port}: give a free port" in ended.stderr


TRAINING = """
import sys
import jax, jax.numpy as jnp, numpy as np
from mgmae_jax.runtime.checkpoint import Checkpoints
from mgmae_jax.runtime.distributed import barrier, initialize, is_primary
from mgmae_jax.runtime.mesh import make_mesh, put_batch, tree_shardings

initialize(timeout_s=60)
initialize()
mesh = make_mesh(fsdp=2)
index = jax.process_index()
assert (jax.process_count(), jax.device_count(), is_primary()) == (2, 4, index == 0)
shardings = tree_shardings(mesh, {"w": jax.ShapeDtypeStruct((512, 256), jnp.float32)})
state = jax.jit(lambda: {"w": jnp.arange(512 * 256, dtype=jnp.float32).reshape(512, 256)}, out_shardings=shardings)()
mean = jax.jit(lambda state, batch: state["w"][0, 1] * batch["x"].mean())
with Checkpoints(sys.argv[1], every=10, keep=1) as checkpoints:
    print("ready", flush=True)
    for step in range(1, 1_000_000):
        rows = np.arange(4, dtype=np.float32) + 4 * index
        with jax.transfer_guard("disallow"):
            batch = put_batch({"x": rows}, mesh)
        value = float(mean(state, batch))
        assert value == 3.5, value
        if checkpoints.preempted():
            checkpoints.save(step, state, {"step": step}, force=True)
            break
    wanted = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)
    restored = checkpoints.restore(wanted)
    assert jax.jit(lambda a, b: jnp.array_equal(a["w"], b["w"]))(state, restored)
    barrier("saved")
    print("left at", step, checkpoints.latest_step(), flush=True)
"""


def test_two_processes_share_a_batch_and_leave_together_when_one_is_preempted(tmp_path: Path):
    with both(TRAINING, str(tmp_path)) as processes:
        for process in processes:
            assert "ready\n" in iter(process.stdout.readline, "")
        processes[1].send_signal(signal.SIGTERM)
        outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    lines = {out.strip().rpartition("\n")[2] for out, _ in outputs}
    assert len(lines) == 1, outputs
    step = lines.pop().split()[-1]
    assert [path.name for path in tmp_path.iterdir()] == [step]


AGREEMENT = """
import sys
from mgmae_jax.errors import FileError, MgmaeError
from mgmae_jax.runtime.distributed import agree_on_errors, from_primary, initialize
import jax

initialize(timeout_s=60)
index = jax.process_index()
assert from_primary(7 + index) == 7
assert from_primary({"steps": [index, 3], "name": "é" * (1 + 4000 * index)}) == {"steps": [0, 3], "name": "é"}
with agree_on_errors():
    pass
try:
    with agree_on_errors():
        if index == 1:
            raise FileError("/videos/a.mp4", "is empty")
except MgmaeError as error:
    print(type(error).__name__, error, flush=True)
else:
    raise SystemExit("no error")
"""


def test_an_error_of_one_process_is_an_error_of_all():
    with both(AGREEMENT) as processes:
        outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    told = [output.strip().splitlines()[-1] for output, _ in outputs]
    assert told == ["PeerError process 1: /videos/a.mp4: is empty", "FileError /videos/a.mp4: is empty"]


UNEQUAL = """
import os
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={1 + 2 * int(os.environ['JAX_PROCESS_ID'])}"
from mgmae_jax.errors import MgmaeError
from mgmae_jax.runtime.distributed import initialize
try:
    initialize(timeout_s=60)
except MgmaeError as error:
    print(f"told: {error}", flush=True)
"""


def test_processes_with_different_numbers_of_devices_are_told_so():
    with both(UNEQUAL) as processes:
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    for output in outputs:
        assert "told: the 2 processes of the run have 1, 3 devices: give each of them the same number" in output
