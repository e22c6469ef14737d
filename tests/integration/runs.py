"""Small runs of `mgmae pretrain` in processes of their own."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from orbax.checkpoint import v1 as ocp

from mgmae_jax.runtime.metrics import METRICS_FILE, read_metrics

ROOT = Path(__file__).parents[2]
STEPS = 12
TWO_OF_FOUR = (str(ROOT / "launch" / "local.sh"), "-n", "2", "--devices-per-process", "4", "--")
ORDERS = ("mgmae_jax.cli", "tests.integration.interleaved")
# The demo's config, made small: 12 steps of 8 videos for a folder of 12, and a checkpoint every third.
SMALL = {
    "clip.frames": 8,
    "clip.size": 32,
    "flow.source": "tvl1",
    "model.decoder_depth": 1,
    "mask.ratio": 0.75,
    "data.views": 1,
    "data.workers": 0,
    "train.batch_size": 8,
    "train.epochs": 8,
    "train.log_every": 1,
    "optim.warmup_epochs": 2,
    "checkpoint.every": 3,
    "preview.every": 0,
}


def command(workdir: Path, config: str = "demo", **changes: object) -> list[str]:
    """`mgmae pretrain` with SMALL and `changes`, whose names have "__" for the dot."""
    fields = SMALL | {name.replace("__", "."): value for name, value in changes.items()}
    overrides = [f"--config.{name}={value}" for name, value in fields.items()]
    return ["pretrain", "--config", config, "--workdir", str(workdir), *overrides]


class Launcher:
    """Starts runs on the CPU with caches of their own.

    Args:
      caches: folder for them; a program compiled by one run is there for the next.
    """

    def __init__(self, caches: Path) -> None:
        self._caches = caches

    def environment(self, devices: int = 1) -> dict[str, str]:
        # Optimisation level 0 halves the time that a program takes to compile.
        flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
        return os.environ | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": flags,
            "MGMAE_CACHE": str(self._caches),
            "JAX_COMPILATION_CACHE_DIR": str(self._caches / "xla"),
        }

    def start(
        self, arguments: Sequence[str], devices: int = 1, prefix: Sequence[str] = (), **options: object
    ) -> subprocess.Popen:
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", "mgmae_jax.cli", *arguments],
            env=self.environment(devices),
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def run(self, arguments: Sequence[str], devices: int = 1, status: int = 0, **options: object) -> str:
        """Runs to the end; returns what was written to standard error."""
        process = self.start(arguments, devices, **options)
        try:
            _, errors = process.communicate(timeout=300)
        finally:
            process.kill()
        assert process.returncode == status, errors
        return errors

    def run_two(self, arguments: Sequence[str], module: str = "mgmae_jax.cli") -> subprocess.CompletedProcess[str]:
        """Runs to the end in two processes of four devices each; `tests.integration.interleaved` mixes the devices."""
        done = subprocess.run(
            [*TWO_OF_FOUR, sys.executable, "-m", module, *arguments],
            env=self.environment() | {"XLA_FLAGS": "--xla_backend_optimization_level=0", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done


def losses(workdir: Path, steps: int = STEPS) -> list[float]:
    """Of every step in order; fails where one is missing or stands there twice."""
    lines = read_metrics(workdir / METRICS_FILE)
    assert [line["step"] for line in lines] == list(range(1, steps + 1))
    return [line["loss"] for line in lines]


def tensors(workdir: Path, steps: int = STEPS) -> dict[str, bytes]:
    """The parameters and optimiser state after the last step, byte by byte."""
    folder = workdir / "checkpoints"
    assert sorted(int(path.name) for path in folder.iterdir())[-1] == steps

    def flat(tree: object, prefix: str = "") -> dict[str, bytes]:
        if isinstance(tree, dict):
            items = tree.items()
        elif isinstance(tree, list | tuple):
            items = enumerate(tree)
        else:
            return {prefix: np.asarray(tree).tobytes()}
        return {name: value for key, child in items for name, value in flat(child, f"{prefix}/{key}").items()}

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sharding info not provided", UserWarning)
        return flat(ocp.load(folder / str(steps)))


def lines_reach(count: int) -> Callable[[Path], bool]:
    """Whether so many steps have reported."""

    def reached(workdir: Path) -> bool:
        path = workdir / "metrics.jsonl"
        return path.exists() and path.read_bytes().count(b"\n") >= count

    return reached


def wait_until(reached: Callable[[], bool], processes: Sequence[subprocess.Popen]) -> None:
    """Waits for a moment of processes; fails with what they wrote if one of them ends before it.

    Asks every millisecond, since asking without a pause would take one of two cores from the processes.
    """
    with contextlib.ExitStack() as stack:
        ends = [os.pidfd_open(process.pid) for process in processes]
        for end in ends:
            stack.callback(os.close, end)
        while not reached():
            ended = select.select(ends, [], [], 0.001)[0]
            assert not ended, processes[ends.index(ended[0])].communicate()[1]


def stop_when(process: subprocess.Popen, reached: Callable[[], bool], how: signal.Signals) -> str:
    """Sends a signal as soon as `reached`; returns what it and its workers wrote, once all of them are gone."""
    try:
        wait_until(reached, [process])
        process.send_signal(how)
        return process.communicate(timeout=300)[1]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
