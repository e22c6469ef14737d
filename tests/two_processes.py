"""The two processes of a run on this machine, which are killed at the end of a test."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def two_processes(
    commands: Sequence[Sequence[str]], environ: Mapping[str, str] = os.environ, **options: object
) -> Iterator[list[subprocess.Popen]]:
    """Starts a command in each process, with the variables by which they find each other."""
    place = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": "2"}
    processes = [
        subprocess.Popen(
            command,
            env={**environ, **place, "JAX_PROCESS_ID": str(index)},
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        for index, command in enumerate(commands)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()
