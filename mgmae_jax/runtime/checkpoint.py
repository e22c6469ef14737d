"""Checkpoints of a run: saved in the background, whole or not at all, restored onto any mesh.

Orbax does the work; this file is the only one that knows it. A checkpoint is a folder named by its step, with one
pytree and a small JSON dictionary in it; it appears under that name only when it is complete.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import tempfile
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from mgmae_jax.errors import FileError, PeerError
from mgmae_jax.runtime.checkpoint_errors import first_line, reading_error
from mgmae_jax.runtime.preemption import Preemption
from mgmae_jax.runtime.weights import Checkpoint, Weights

FOLDER = "checkpoints"  # their folder in a workdir
_STATE = "state"  # the name of the pytree in a checkpoint
_SHOWN = 5  # differing tensors shown in an error
_WEIGHTS = (".bin", ".ckpt", ".pt", ".pth", ".safetensors")  # the extensions of other programs' files


class Checkpoints:
    """The checkpoints of one run, with the rules for when to save, and when to stop for a preemption.

    Every process of a run creates one and calls it at the same steps. While it is open, SIGTERM does not end the
    process: it makes `preempted` true.

    Args:
      folder: the folder of the checkpoints, seen by every process; created if absent. Leftovers of an interrupted save
        are removed.
      every: save at multiples of this step.
      keep: how many of the latest checkpoints to keep.
      keep_period: keep every checkpoint at a multiple of this step as well.

    Raises:
      FileError: the folder cannot be made or written to.
    """

    def __init__(self, folder: str | Path, *, every: int, keep: int, keep_period: int | None = None) -> None:
        self.folder = Path(folder).absolute()
        self._every = every
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            reason = error.strerror or error
            raise FileError(
                self.folder, f"cannot hold checkpoints ({reason}): give a --workdir you can write to"
            ) from error
        policies = ocp.training.preservation_policies
        kept = [policies.LatestN(keep)] + ([policies.EveryNSteps(keep_period)] if keep_period else [])
        self._checkpointer = ocp.training.Checkpointer(
            self.folder,
            preservation_policy=policies.AnyPreservationPolicy(kept),
            cleanup_tmp_directories=True,
        )
        # Orbax asks JAX for a SIGTERM too, at its own steps. JAX agrees on the call after the last number that it was
        # asked, which `Preemption` would then never reach, and the signal would be lost.
        self._checkpointer._manager.reached_preemption = lambda step: False
        self._saving: tuple[int, ocp.AsyncResponse] | None = None
        self._preemption = Preemption()
        logging.getLogger("absl").addFilter(_not_from_orbax)

    def due(self, step: int) -> bool:
        """Whether the policy saves at this step."""
        return step % self._every == 0

    def save(self, step: int, state: Any, metadata: dict[str, Any], force: bool = False) -> bool:
        """Starts saving, if it is due.

        Returns as soon as the state is copied off the devices, so the caller may donate it to the next step.

        Args:
          step: how many updates made this state.
          state: a pytree of arrays: dicts, dataclasses, optimiser states.
          metadata: a small JSON-compatible dictionary, read back by `metadata`.
          force: save at any step.

        Returns:
          Whether a save began: False if none is due, or if this step is already saved.

        Raises:
          FileError: this save, or the one before it, failed.
        """
        if not force and not self.due(step):
            return False
        self.wait()
        if step in self._steps():
            return False
        try:
            response = self._checkpointer.save_async(
                step, state, checkpointable_name=_STATE, force=True, custom_metadata=metadata
            )
        except Exception as error:
            raise self._save_error(step, error) from error
        self._saving = (step, response)
        return True

    def wait(self) -> None:
        """Waits until the save in the background, if any, is complete.

        Raises:
          FileError: it failed. No step that it left looks complete.
        """
        if self._saving is None:
            return
        (step, response), self._saving = self._saving, None
        try:
            response.result()
        except Exception as error:
            with contextlib.suppress(Exception):  # Orbax raises the same error again in each waiting thread.
                self._checkpointer.wait()
            raise self._save_error(step, error) from error

    def _save_error(self, step: int, error: Exception) -> FileError:
        self._checkpointer.reload()
        latest = self.latest_step()
        after = "starts again" if latest is None else f"resumes from step {latest}"
        return FileError(
            self.folder,
            f"the checkpoint of step {step} could not be saved ({first_line(error)}). Free room there or make it "
            f"writable, then run the same command: it {after}.",
        )

    def _steps(self) -> list[int]:
        return [checkpoint.step for checkpoint in self._checkpointer.checkpoints]

    def latest_step(self) -> int | None:
        """Returns the step of the latest checkpoint, once it is complete; None if there is none.

        Raises:
          FileError: the save in the background failed.
        """
        self.wait()
        return max(self._steps(), default=None)

    def first_step(self) -> int | None:
        """Returns the step of the earliest checkpoint; None if there is none."""
        return min(self._steps(), default=None)

    def restore(self, abstract_state: Any, step: int | None = None) -> Any:
        """Reads a checkpoint onto the devices.

        Args:
          abstract_state: the pytree to fill, of `jax.ShapeDtypeStruct` with a `sharding`; any mesh will do.
          step: which checkpoint; the latest by default.

        Returns:
          The state, bit for bit what was saved, with the shardings of `abstract_state`.

        Raises:
          FileError: there is no such checkpoint, it is damaged or cannot be read now, or its tensors do not match
            `abstract_state`.
          MemoryError: there is not enough memory for it.
        """
        path = self._path(step)
        _check_tensors(path, _tensors(_read_metadata(path).metadata), _tensors(abstract_state))
        return _load(path, abstract_state)

    def metadata(self, step: int | None = None) -> dict[str, Any]:
        """Returns the dictionary that was saved with a checkpoint, the latest by default.

        Raises:
          FileError: there is no such checkpoint, or it is damaged or cannot be read now.
        """
        return _read_metadata(self._path(step), record=True).custom_metadata or {}

    def _path(self, step: int | None) -> Path:
        self.wait()
        steps = self._steps()
        if not steps or (step is not None and step not in steps):
            which = "" if step is None else f" of step {step}"
            raise FileError(self.folder, f"holds no checkpoint{which}; the steps there are {steps or 'none'}")
        return self.folder / str(steps[-1] if step is None else step)

    def move_away(self, step: int) -> Path:
        """Renames the checkpoint of a step, so that it no longer counts; returns its new path.

        Raises:
          PeerError: another process of the run has renamed it.
          FileError: it cannot be renamed.
        """
        path = self.folder / str(step)
        names = (f"{step}.damaged{number or ''}" for number in itertools.count())
        aside = next(place for place in map(path.with_name, names) if not place.exists())
        try:
            path.rename(aside)
        except OSError as error:
            if jax.process_count() > 1 and not path.exists():
                raise PeerError(f"{path}: another process has moved it away") from error
            raise FileError(path, f"is damaged, and cannot be moved away ({error.strerror or error})") from error
        self._checkpointer.reload()
        return aside

    def preempted(self) -> bool:
        """Whether to save and exit now, because of a SIGTERM; see `Preemption.reached`."""
        return self._preemption.reached()

    def close(self) -> None:
        """Waits for the save in the background and releases everything.

        Raises:
          FileError: that save failed.
        """
        try:
            self.wait()
        finally:
            with contextlib.suppress(Exception):  # `wait` has reported every failure, and Orbax would report it again.
                self._checkpointer.close()
            logging.getLogger("absl").removeFilter(_not_from_orbax)
            self._preemption.close()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Show the error that is propagating, not the failure of the save that follows from it.
        with contextlib.suppress(FileError) if kind is not None else contextlib.nullcontext():
            self.close()


def find_checkpoint(path: str | Path) -> Path:
    """Finds the checkpoint that a path names, without changing anything: the run there may still be active.

    Args:
      path: a checkpoint, a folder of checkpoints, or a workdir; the latest of several is taken.

    Returns:
      The folder of one checkpoint.

    Raises:
      FileError: there is none.
    """
    path = Path(path).absolute()
    if (path / _STATE).is_dir():
        return path
    if steps := saved_steps(path):
        return path / FOLDER / str(steps[-1])
    if steps := steps_in(path):
        return path / str(steps[-1])
    want = "give a workdir, a folder of checkpoints or one of its steps"
    if not path.exists():
        raise FileError(path, f"no such file or folder: {want}")
    if weights := sorted(entry.name for entry in path.glob("*") if entry.suffix in _WEIGHTS):
        want += f"; or the file of another program's weights: {weights[0]}"
    raise FileError(path, f"holds no checkpoint: {want}")


def saved_steps(workdir: str | Path) -> list[int]:
    """The steps of a run's complete checkpoints, increasing."""
    return steps_in(Path(workdir) / FOLDER)


def steps_in(folder: Path) -> list[int]:
    """The steps of the complete checkpoints in a folder, increasing."""
    # Those that are not finished have a suffix.
    return sorted(int(entry.name) for entry in folder.glob("*") if entry.name.isdecimal() and entry.is_dir())


def file_above(checkpoint: str | Path, name: str) -> Path | None:
    """The file called `name` in the nearest folder above a checkpoint, as `config.json` in its workdir; None if absent.

    Args:
      checkpoint: as for `find_checkpoint`.
      name: the file's name.

    Raises:
      FileError: there is no checkpoint.
    """
    folders = find_checkpoint(checkpoint).parents
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def checkpoint_name(path: Checkpoint) -> str:
    """What reports call a checkpoint: its whole path, or what the user calls the file of another program.

    Raises:
      FileError: there is none.
    """
    return path.name if isinstance(path, Weights) else str(find_checkpoint(path))


def saved_params(path: str | Path, tree: str = "params") -> dict[str, tuple[int, ...]]:
    """The shapes of one subtree of a checkpoint's state, by path with dots.

    Raises:
      FileError: there is no checkpoint, it is damaged, or it has no such subtree.
    """
    path = find_checkpoint(path)
    saved = _tensors(_read_metadata(path).metadata)
    found = {
        name.removeprefix(f"{tree}/").replace("/", "."): shape
        for name, (shape, _) in saved.items()
        if name.startswith(f"{tree}/")
    }
    if not found:
        raise FileError(path, f"holds no {tree}")
    return found


def restore_params(path: Checkpoint, abstract_params: Any, tree: str = "params") -> Any:
    """Reads only the parameters: one subtree of a checkpoint's state.

    Args:
      path: as for `find_checkpoint`; or the weights of another program, which have no other subtrees.
      abstract_params: the pytree to fill, of `jax.ShapeDtypeStruct` with a `sharding`. Tensors beyond those are left
        out; a tensor of another dtype is converted.
      tree: "params", or "ema" for their average.

    Returns:
      The parameters, with the dtypes and shardings of `abstract_params`.

    Raises:
      FileError: there is no checkpoint, it is damaged, or its tensors are missing or of another shape.
    """
    if isinstance(path, Weights):
        shapes = {name.replace(".", "/"): leaf.shape for name, leaf in path.leaves.items()}
        wanted = _tensors(abstract_params)
        _check_tensors(path.name, {name: (shapes[name], wanted[name][1]) for name in wanted if name in shapes}, wanted)
        return path.restore(abstract_params)
    path = find_checkpoint(path)
    saved, wanted = _tensors(_read_metadata(path).metadata), _tensors({tree: abstract_params})
    # Additional tensors and other dtypes do not count as a difference here.
    _check_tensors(path, {name: (saved[name][0], wanted[name][1]) for name in wanted if name in saved}, wanted)
    return _load(path, {tree: abstract_params}, partial=True)[tree]


def _tensors(tree: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """Names the leaves of a pytree, or of Orbax's description of one, with their shapes and dtypes."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): (tuple(leaf.shape), str(jax.numpy.dtype(leaf.dtype)))
        for path, leaf in leaves
    }


def _check_tensors(path: Path | str, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    def told(tensors: dict[str, Any], name: str) -> str:
        return f"{tensors[name][1]}{list(tensors[name][0])}" if name in tensors else "absent"

    names = [name for name in {**wanted, **saved} if saved.get(name) != wanted.get(name)]
    if names:
        shown = [f"{name} is {told(saved, name)}, the model needs {told(wanted, name)}" for name in names[:_SHOWN]]
        more = f"; and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        reason = f"is of another model or optimiser: {'; '.join(shown)}{more}. Give the config that it was made with."
        raise FileError(path, reason)


def _read_metadata(path: Path, *, record: bool = False) -> Any:
    """What Orbax says of a checkpoint: the list of its tensors, and with `record` what was saved with them."""
    try:
        description = ocp.metadata(path)
        # Orbax continues without what it cannot read, whatever the reason is; reading the files again tells it.
        if description.metadata is None:
            (path / _STATE / "_METADATA").read_bytes()
            raise ValueError("its list of tensors is unreadable")
        if record and description.init_timestamp_nsecs is None:
            (path / "_CHECKPOINT_METADATA").read_bytes()
            raise ValueError("its record of the run is missing or unreadable")
    except Exception as error:
        raise reading_error(path, error) from error
    return description


def _load(path: Path, abstract: Any, partial: bool = False) -> Any:
    context = ocp.Context()
    context.pytree.loading.partial_load = partial
    try:
        with context:
            return ocp.load(path, abstract)
    except Exception as error:
        raise reading_error(path, error) from error


def _not_from_orbax(record: logging.LogRecord) -> bool:
    # Each of Orbax's threads logs the traceback of a failed save, hundreds of lines; we raise it once, in one line.
    return not (record.levelno >= logging.ERROR and "orbax" in record.pathname)
