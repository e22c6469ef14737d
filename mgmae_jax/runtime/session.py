"""An open workdir of a run: its lock, config, checkpoints and metrics, and the state, restored or new, on the mesh.

It is the one place where the processes of a run agree: on whether it may start here, and from which step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mgmae_jax.errors import FileError, InUseError, MgmaeError
from mgmae_jax.runtime.checkpoint import FOLDER, Checkpoints, saved_steps
from mgmae_jax.runtime.checkpoint_errors import DamagedCheckpointError
from mgmae_jax.runtime.distributed import agree_on_errors, from_primary, is_primary
from mgmae_jax.runtime.mesh import abstract_on, make_on
from mgmae_jax.runtime.metrics import MetricWriter
from mgmae_jax.runtime.progress import Progress
from mgmae_jax.runtime.rng import stream
from mgmae_jax.runtime.run_info import ALLOW_CHANGE, check_same_config, covers, flat_fields, write_run_info

LOCK = ".lock"
MACHINE_FIELDS = (
    "data.workers",
    "train.log_every",
    "train.profile_steps",
    "checkpoint",
    "mesh",
    "compile_cache",
    "model.remat",
    "model.attention",
    "train.accumulate",
    "train.max_bad_steps",
    "data.path",  # what it lists is compared instead: see `open_run`
    "data.max_bad_fraction",
)
"""Fields of every trainer's config that do not change what is learned: a run may be resumed with other values."""
_PROCESS_FIELDS = (
    "data.workers", "data.threads", "data.path", "data.cache", "data.cache_gib", "eval.path", "flow.weights",
    "compile_cache",
)  # fmt: skip
"""Fields that may differ between the processes of a run; what those lists and weights hold is compared instead."""
_SHOWN = 5  # differences shown in an error


@dataclasses.dataclass
class OpenRun:
    """A run that is about to start or to resume; made by `restored`.

    Attributes:
      workdir: the run's folder.
      mesh: the devices.
      key: the root key; everything random is derived from it.
      state: the state before step `start + 1`, on the mesh.
      start: the number of steps done.
      total: the step at which the run ends.
      checkpoints: where to save.
      writer: writes the metrics.
      identity: what is saved with each checkpoint, see `restored`.
      changes: what of the identity was allowed to differ from the last checkpoint's, and does.
    """

    workdir: Path
    mesh: Mesh
    key: jax.Array
    state: Any
    start: int
    total: int
    checkpoints: Checkpoints
    writer: MetricWriter
    identity: Mapping[str, Any]
    changes: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.start >= self.total

    def announce(self, model: str, work: str, begin: str = "from scratch") -> None:
        """Says on standard error, in the first process, what is about to run.

        Args:
          model: its name and description.
          work: what a step processes.
          begin: where a run starts that is not resumed.
        """
        if not is_primary():
            return
        parameters = sum(leaf.size for leaf in jax.tree.leaves(self.state.params))
        where = f"resuming from step {self.start}" if self.start else begin
        if self.finished:
            where = f"finished at step {self.start}, nothing to do"
        devices = f"{jax.device_count()} {jax.devices()[0].device_kind} device(s) in {jax.process_count()} process(es)"
        lines = [f"{model}; {parameters:,} parameters", f"{work}, {self.total} steps, {where}; {devices}"]
        print("\n".join(lines), file=sys.stderr, flush=True)

    def progress(self, items: str = "clips") -> Progress | None:
        """The progress line of the first process; None in the others."""
        return Progress(self.total, self.start, items=items) if is_primary() else None


@contextlib.contextmanager
def open_run(
    workdir: Path,
    config: ConfigDict,
    argv: Sequence[str],
    init: Callable[..., Any],
    total: int,
    mesh: Mesh,
    *,
    machine_fields: Sequence[str] = MACHINE_FIELDS,
    identity: Mapping[str, Any] | None = None,
    load: Callable[[Any], Any] | None = None,
    allow_change: Sequence[str] = (),
    weights: Mapping[str, Any] | None = None,
) -> Iterator[OpenRun]:
    """Opens a workdir for a training run, new or interrupted. Every process must call this.

    From its first checkpoint on, a workdir is bound to the config and the identity of its run.

    Args:
      workdir: the run's folder; made if absent.
      config: the resolved config; all of it is compared, except for `machine_fields`.
      argv: the command line, for run.json.
      init: see `restored`.
      total: the step at which the run ends.
      mesh: the devices.
      machine_fields: see `check_same_config`.
      identity: see `restored`.
      load: see `restored`.
      allow_change: dotted fields of the config, their parents, or names of the identity, that may differ this time.
      weights: see `write_run_info`; looked at after `load` was called, which may fill it.

    Raises:
      MgmaeError: the workdir belongs to another config or is in use, one of its files is damaged or cannot be written.
    """
    with contextlib.ExitStack() as stack:
        changes = stack.enter_context(claimed(workdir, config, machine_fields, allowed=allow_change, is_run=True))
        opened = stack.enter_context(
            restored(workdir, config, init, total, mesh, identity=identity, load=load, allow_change=allow_change)
        )
        with agree_on_errors():
            if is_primary():
                told = [f"step {opened.start}: {change}" for change in (*changes, *opened.changes)]
                write_run_info(workdir, config, argv, told if opened.start else None, weights)
        yield opened


@contextlib.contextmanager
def claimed(
    folder: Path,
    config: ConfigDict,
    machine_fields: Sequence[str],
    flag: str = "--workdir",
    allowed: Sequence[str] = (),
    *,
    is_run: bool = False,
) -> Iterator[list[str]]:
    """Claims a folder for this run, if it is new or was begun with this config. Every process must call this.

    Args:
      folder: the folder; created if absent.
      config: the resolved config.
      machine_fields: see `check_same_config`.
      flag: the flag that gave the folder.
      allowed: see `check_same_config`.
      is_run: whether it is the workdir of a training run, which is new until it has a checkpoint.

    Yields:
      What differs and is allowed to, see `check_same_config`; in the first process.

    Raises:
      MgmaeError: see `check_same_config` and `locked`, the same in every process; or a process has another config than
        the first.
    """
    with contextlib.ExitStack() as stack:
        changes: list[str] = []
        check_same_in_all(config.to_dict(), _PROCESS_FIELDS)
        with agree_on_errors():
            if is_primary():
                stack.enter_context(locked(folder, flag))
                if not is_run or saved_steps(folder):
                    changes += check_same_config(folder, config, machine_fields, flag, allowed)
        yield changes


@contextlib.contextmanager
def restored(
    workdir: Path,
    config: ConfigDict,
    init: Callable[..., Any],
    total: int,
    mesh: Mesh,
    *,
    identity: Mapping[str, Any] | None = None,
    load: Callable[[Any], Any] | None = None,
    allow_change: Sequence[str] = (),
) -> Iterator[OpenRun]:
    """The state of a claimed workdir's run, new or from its last checkpoint. Every process must call this.

    Args:
      workdir: the run's folder.
      config: a config with `seed` and `checkpoint`.
      init: makes the state before the first step from a key, and from what `load` returned if there is one. It is
        jitted, so that no device ever holds more than its share.
      total: the step at which the run ends.
      mesh: the devices.
      identity: what the run is bound to in addition to its config, such as the hash of its flow weights: JSON values,
        saved with every checkpoint, that must be the same when it is resumed.
      load: from the abstract state to what a new run is initialised with in addition to the key, such as a pre-trained
        encoder.
      allow_change: names of the identity that may differ this time.

    Raises:
      MgmaeError: the last checkpoint belongs to another run or is damaged, the folder cannot be written to, or a
        process has another identity than the first, such as another list of videos.
    """
    options, identity = config.checkpoint, dict(identity or {})
    check_same_in_all(identity | {"steps": total})
    with (
        Checkpoints(
            workdir / FOLDER, every=options.every, keep=options.keep, keep_period=options.get("keep_period")
        ) as checkpoints,
        MetricWriter(workdir, is_primary()) as writer,
    ):
        key = jax.random.key(config.seed)

        def make(*loaded: Any) -> Any:
            return init(stream(key, 0, "init"), *loaded)

        abstract = abstract_on(mesh, make)
        changes: list[str] = []
        start, state = 0, None
        while state is None and (start := from_primary(checkpoints.latest_step() or 0)):
            try:
                with agree_on_errors():
                    changes = check_identity(workdir, checkpoints.metadata(start), identity, allow_change)
                state = checkpoints.restore(abstract, start)
            except DamagedCheckpointError as error:
                _leave_out(checkpoints, start, error)
        if state is None:
            state = make_on(abstract, make, *([] if load is None else [load(abstract)]))
        with agree_on_errors():
            writer.truncate_from(start + 1)
        yield OpenRun(workdir, mesh, key, state, start, total, checkpoints, writer, identity, tuple(changes))


def check_same_in_all(what: Mapping[str, Any], excepted: Sequence[str] = ()) -> None:
    """Checks that every process has what the first one has: they run one program. Every process must call this.

    Raises:
      MgmaeError: it has something else; raised in the processes that differ, and as a PeerError in the others.
    """
    here = {name: value for name, value in flat_fields(what).items() if not covers(excepted, name)}
    first = from_primary(here)
    with agree_on_errors():
        differing = [name for name in {**here, **first} if here.get(name) != first.get(name)]
        if differing:
            shown = [f"  {name}: {first.get(name)} in process 0, {here.get(name)} here" for name in differing[:_SHOWN]]
            more = [f"  and {len(differing) - _SHOWN} more"] if len(differing) > _SHOWN else []
            head = f"process {jax.process_index()} is about to run something else than process 0:"
            advice = "Give all processes of a run the same command, and let them see the same files."
            raise MgmaeError("\n".join([head, *shown, *more, advice]))


def _leave_out(checkpoints: Checkpoints, step: int, error: DamagedCheckpointError) -> None:
    """Moves a damaged checkpoint away, so that the run resumes from the one before it.

    Raises:
      MgmaeError: there is none before it; or the run has several processes, of which others may have read their parts
        of it: it is to be started again.
    """
    reason = error.reason.partition(": move")[0]
    if step == checkpoints.first_step():
        raise FileError(error.path, f"{reason}, and there is none before it: move it away to start again.") from error
    told = f"{error.path}: {reason}; it is now {checkpoints.move_away(step)}"
    if jax.process_count() > 1:
        raise MgmaeError(f"{told}. The same command resumes from step {checkpoints.latest_step()}.") from error
    print(f"{told}: resuming from step {checkpoints.latest_step()}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked(folder: Path, flag: str = "--workdir") -> Iterator[int]:
    """Keeps other runs out of a folder, on this machine and, if the file system has locks, on others.

    The lock ends with the process, however it ends, and with the children that inherit its file.

    Yields:
      The descriptor of the lock's file, which children do not inherit unless told to.

    Raises:
      InUseError: another run holds it.
      FileError: the folder cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        exists = isinstance(error, FileExistsError | NotADirectoryError)
        why = "it is, or is below, a file" if exists else error.strerror or error
        reason = f"cannot be written to ({why}): give a {flag} that you can write to"
        raise FileError(folder, reason) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read(200).strip() or "another process"
            raise InUseError(
                f"{folder} is in use by {holder}: wait for it or stop it, or give another {flag}."
            ) from error
        except OSError:
            pass  # a file system without locks
        else:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        yield file.fileno()


def check_identity(
    workdir: Path, saved: Mapping[str, Any], now: Mapping[str, Any], allowed: Sequence[str] = ()
) -> list[str]:
    """Checks that a run resumes with what it began with; what its checkpoint does not record is not compared.

    Returns:
      One line for each thing that differs and is allowed to.

    Raises:
      MgmaeError: something else differs.
    """
    changes = []
    for name, value in now.items():
        if name not in saved or saved[name] == value:
            continue
        if name not in allowed:
            raise MgmaeError(
                f"{workdir} holds a run with {name.replace('_', ' ')} {saved[name]}, and this one has {value}: give "
                f"what the run began with, another --workdir, or {ALLOW_CHANGE} {name} to resume it changed."
            )
        changes.append(f"{name}: {saved[name]} before, {value} now")
    return changes
