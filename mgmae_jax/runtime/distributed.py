"""Starts `jax.distributed` if the environment says that the run has several processes."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypedDict

import jax
import numpy as np
from jax.experimental import multihost_utils

from mgmae_jax.errors import MgmaeError

_MESSAGE_BYTES = 4096  # the length of an error reported to the other processes
VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


class Processes(TypedDict, total=False):
    """The arguments for `jax.distributed.initialize`; none at all if JAX is to detect the cluster."""

    coordinator_address: str
    num_processes: int
    process_id: int


def initialize(timeout_s: float = 300.0) -> None:
    """Joins this process to the others of its run; does nothing in a run of one process, or when called again.

    Call it before anything uses a device. The processes are found from JAX_COORDINATOR_ADDRESS (host:port of
    process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID, or else by JAX's own detection if the environment is that of a
    Slurm or Open MPI step of several tasks, or of a TPU pod.

    Args:
      timeout_s: how long to wait for the other processes, in seconds.

    Raises:
      MgmaeError: the variables are incomplete or malformed, the port is taken, or the processes did not find each
        other in time.
    """
    if jax.distributed.is_initialized():
        return
    arguments = processes_from_environment(os.environ, on_tpu_vm=_on_tpu_vm())
    if arguments is None:
        return
    if arguments.get("process_id") == 0:
        _check_port(str(arguments["coordinator_address"]))
    failure: list[Exception] = []

    def connect() -> None:
        try:
            # JAX ends the whole process when its own timeout expires; ours expires first.
            jax.distributed.initialize(**arguments, initialization_timeout=int(timeout_s) + 3600)
        except Exception as error:
            failure.append(error)

    thread = threading.Thread(target=connect, name="distributed-initialize", daemon=True)
    thread.start()
    thread.join(timeout_s)
    where = arguments.get("coordinator_address", "the address that JAX found for this cluster")
    if thread.is_alive():
        raise MgmaeError(
            f"process {arguments.get('process_id', '?')} did not meet the other processes at {where} within "
            f"{timeout_s:.0f} s: start all {arguments.get('num_processes', 'of the')} processes of the run, and let "
            f"them reach that port of process 0. For a run of one process unset {', '.join(VARIABLES)}."
        )
    if failure:
        raise MgmaeError(
            f"could not start the distributed run at {where}: {failure[0]}. Set {', '.join(VARIABLES)} to a free port "
            "of process 0, the number of processes and this one's number; unset them for a run of one process "
            "(on a single TPU host also set TPU_SKIP_MDS_QUERY=1)."
        ) from failure[0]


def processes_from_environment(environ: Mapping[str, str], on_tpu_vm: bool = False) -> Processes | None:
    """Reads from the environment which processes make up the run.

    Args:
      environ: the environment variables.
      on_tpu_vm: whether this machine has TPU chips.

    Returns:
      The arguments for `jax.distributed.initialize`: none at all if JAX is to detect the cluster, None if the run is a
      single process.

    Raises:
      MgmaeError: some of `VARIABLES` are set but not all, or they are malformed.
    """
    given = {name: environ[name] for name in VARIABLES if environ.get(name)}
    if given:
        if missing := [name for name in VARIABLES if name not in given]:
            raise MgmaeError(
                f"the environment sets {', '.join(given)} but not {', '.join(missing)}: set all three for a run of "
                "several processes, none for a run of one."
            )
        address, count, index = (given[name] for name in VARIABLES)
        if not address.rpartition(":")[0] or not address.rpartition(":")[2].isdigit():
            raise MgmaeError(f"JAX_COORDINATOR_ADDRESS={address}: give HOST:PORT of process 0.")
        if not (count.isdigit() and index.isdigit() and int(index) < int(count)):
            raise MgmaeError(
                f"JAX_NUM_PROCESSES={count}, JAX_PROCESS_ID={index}: give a number of processes, and this one's "
                "number, which counts from 0."
            )
        return {"coordinator_address": address, "num_processes": int(count), "process_id": int(index)}
    # Only inside `srun`: in the batch script itself SLURM_NTASKS is the whole job's, and no other process would join.
    tasks = [environ.get("SLURM_STEP_NUM_TASKS", "1"), environ.get("OMPI_COMM_WORLD_SIZE", "1")]
    if any(number.isdigit() and int(number) > 1 for number in tasks):
        return {}
    if on_tpu_vm and environ.get("JAX_PLATFORMS", "tpu").startswith("tpu"):
        hosts = environ.get("TPU_PROCESS_ADDRESSES") or environ.get("TPU_WORKER_HOSTNAMES")
        several = "," in hosts if hosts else not environ.get("TPU_SKIP_MDS_QUERY")
        if several or int(environ.get("MEGASCALE_NUM_SLICES") or 1) > 1:
            return {}
    return None


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


def from_primary(value: int) -> int:
    """The first process's value, in every process. To be called by all of them."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


@contextlib.contextmanager
def agree_on_errors() -> Iterator[None]:
    """Runs a block in every process; an error in one becomes an error in all, so that none waits for another.

    The block itself must not wait for other processes.

    Raises:
      MgmaeError: the block failed in another process; the message says how.
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
                error = MgmaeError(f"process {process}: {other.tobytes().rstrip(bytes(1)).decode(errors='replace')}")
    if error is not None:
        raise error
