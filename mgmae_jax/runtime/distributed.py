"""Starts `jax.distributed` if the environment says that the run has several processes."""

from __future__ import annotations

import collections
import contextlib
import importlib.util
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from mgmae_jax.errors import MgmaeError, PeerError
from mgmae_jax.runtime import peers
from mgmae_jax.runtime.backend import check_backend
from mgmae_jax.runtime.cluster import VARIABLES, Processes, check_environment, processes_from_environment

_MESSAGE_BYTES = 4096  # the length of an error reported to the other processes
START_TIMEOUT_S = 300.0
"""How long the processes of a run wait for each other at its start, in seconds."""
FLAG = "--start-timeout"  # which sets it
_RETRY_S = 2.0  # between two attempts to resolve a name


def initialize(timeout_s: float = START_TIMEOUT_S) -> None:
    """Joins this process to the others of its run, if it has several, and starts JAX's backend.

    Call it before anything uses a device; another call does nothing. The processes are found from
    JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID, or else by JAX's own
    detection if the environment is that of a Slurm or Open MPI step of several tasks, or of a TPU pod.

    Args:
      timeout_s: how long to wait for the other processes, in seconds.

    Raises:
      MgmaeError: the variables are incomplete or malformed, the host name of process 0 does not resolve, its port is
        taken, the processes did not find each other in time, there is no such backend, or not every process has the
        same number of devices.
    """
    if jax.distributed.is_initialized():
        peers.watch()
        return
    on_tpu_vm = _on_tpu_vm()
    check_environment(os.environ, on_tpu_vm)
    arguments = processes_from_environment(os.environ, on_tpu_vm)
    if arguments is not None:
        _join(arguments, timeout_s)
        peers.watch()
    check_backend()
    _check_devices([device.process_index for device in jax.devices()])


def _join(arguments: Processes, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    if address := arguments.get("coordinator_address"):
        wait_for_host(address, timeout_s)
    if address and arguments.get("process_id") == 0:
        _check_port(address)
    failure: list[Exception] = []

    def connect() -> None:
        try:
            # JAX ends the whole process when its own timeout expires; ours expires first.
            jax.distributed.initialize(**arguments, initialization_timeout=int(timeout_s) + 3600)
        except Exception as error:
            failure.append(error)

    thread = threading.Thread(target=connect, name="distributed-initialize", daemon=True)
    thread.start()
    thread.join(max(0.0, end - time.monotonic()))
    where = address or "the address that JAX found for this cluster"
    if thread.is_alive():
        raise MgmaeError(
            f"process {arguments.get('process_id', '?')} did not meet the other processes at {where} within "
            f"{timeout_s:g} s ({FLAG}): start all {arguments.get('num_processes', 'of the')} processes of the run, and "
            f"let them reach that port of process 0. For a run of one process unset {', '.join(VARIABLES)}."
        )
    if failure:
        raise MgmaeError(
            f"could not start the distributed run at {where}: {failure[0]}. Set {', '.join(VARIABLES)} to a free port "
            "of process 0, the number of processes and this one's number; unset them for a run of one process "
            "(on a single TPU host also set TPU_SKIP_MDS_QUERY=1)."
        ) from failure[0]


def _check_devices(processes: Sequence[int]) -> None:
    """Checks that every process has as many devices as the others, which JAX's broadcasts need.

    Args:
      processes: the number of each device's process.
    """
    counts = collections.Counter(processes)
    if len(set(counts.values())) > 1:
        each = ", ".join(str(counts[process]) for process in sorted(counts))
        raise MgmaeError(
            f"the {len(counts)} processes of the run have {each} devices: give each of them the same number, with "
            "CUDA_VISIBLE_DEVICES or JAX_LOCAL_DEVICE_IDS on GPUs."
        )


def wait_for_host(
    address: str,
    timeout_s: float,
    resolve: Callable[[str, None], object] = socket.getaddrinfo,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Waits until the host name of process 0 resolves, as the name of a pod does only once it runs.

    The first failure is told at once on standard error.

    Args:
      address: JAX_COORDINATOR_ADDRESS, HOST:PORT.
      timeout_s: how long to try, in seconds.
      resolve: as `socket.getaddrinfo`.
      clock: the time in seconds.
      sleep: waits for so many seconds.

    Raises:
      MgmaeError: the name does not resolve.
    """
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    end, told = clock() + timeout_s, False
    while True:
        try:
            resolve(host, None)
            return
        except (OSError, UnicodeError) as error:  # a UnicodeError for a name that cannot be one, such as a..b
            failure, reason = error, getattr(error, "strerror", None) or str(error)
        left = end - clock()
        if left <= 0 or isinstance(failure, UnicodeError):
            waited = "" if isinstance(failure, UnicodeError) else f" within {timeout_s:g} s ({FLAG})"
            raise MgmaeError(
                f"JAX_COORDINATOR_ADDRESS={address}: the host name {host!r} does not resolve{waited}: {reason}. Give "
                f"the name or the IP address of process 0; for a run of one process unset {', '.join(VARIABLES)}."
            ) from failure
        if not told:
            print(
                f"JAX_COORDINATOR_ADDRESS={address}: the host name {host!r} does not resolve yet ({reason}): trying "
                f"for {timeout_s:g} s ({FLAG})",
                file=sys.stderr,
                flush=True,
            )
            told = True
        sleep(min(_RETRY_S, left))


def _check_port(address: str) -> None:
    """Reports a port in use, which would make JAX's coordinator exit without a message."""
    try:
        socket.create_server(("", int(address.rpartition(":")[2]))).close()
    except (OSError, OverflowError) as error:
        raise MgmaeError(f"JAX_COORDINATOR_ADDRESS={address}: give a free port of this machine ({error}).") from error


def _on_tpu_vm() -> bool:
    chips = Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists()
    return chips and importlib.util.find_spec("libtpu") is not None


def is_primary() -> bool:
    """Whether this is process 0, the one that writes metrics and reports."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process has arrived here.

    Args:
      name: the same in every process, and different for each barrier.
    """
    multihost_utils.sync_global_devices(name)


def from_primary(value: Any) -> Any:
    """The first process's value, in every process. To be called by all of them.

    What must be the same everywhere, such as the step to start from, is decided in one place: processes that look at a
    network file system by themselves may see different things.

    Args:
      value: a JSON value.
    """
    if jax.process_count() == 1:
        return value
    text = np.frombuffer(json.dumps(value).encode() if is_primary() else b"", np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    padded = np.zeros(length, np.uint8)
    padded[: len(text)] = text
    return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes())


@contextlib.contextmanager
def agree_on_errors() -> Iterator[None]:
    """Runs a block in every process; an error in one becomes an error in all, so that none waits for another.

    The block itself must not wait for other processes.

    Raises:
      PeerError: the block failed in another process alone.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as caught:
        error = caught
    if jax.process_count() > 1:
        message = "" if error is None else str(error) or type(error).__name__
        told = np.zeros(_MESSAGE_BYTES, np.uint8)
        text = np.frombuffer(message.encode(errors="replace")[:_MESSAGE_BYTES], np.uint8)
        told[: len(text)] = text
        for process, other in enumerate(np.asarray(multihost_utils.process_allgather(told))):
            if error is None and other.any():
                error = PeerError(f"process {process}: {other.tobytes().rstrip(bytes(1)).decode(errors='replace')}")
    if error is not None:
        raise error
