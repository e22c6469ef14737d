"""Which processes make up a run, as the environment says: by variables of JAX, or by those of a launcher.

JAX finds the processes of Slurm, Open MPI and TPU pods from variables that it takes to be complete. They are checked
here first, since a shell or a container easily inherits some of them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import TypedDict

from mgmae_jax.errors import MgmaeError

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_WHOLE_NUMBER = r"[0-9]+"
_ORTE_URI = "OMPI_MCA_orte_hnp_uri"  # by which JAX knows Open MPI
# Optional variables of JAX that are whole numbers, or comma-separated ones.
_OPTIONAL = {
    "JAX_LOCAL_DEVICE_IDS": (r"[0-9]+(,[0-9]+)*", "numbers of this machine's devices, like 0 or 0,1"),
    "JAX_COORDINATOR_PORT": (_WHOLE_NUMBER, "the number of a port"),
    "JAX_COORDINATOR_BIND_ADDRESS": (r".+:[0-9]+", "HOST:PORT"),
    "JAX_PARTITION_INDEX": (_WHOLE_NUMBER, "a whole number"),
    "JAX_SLICE_INDEX": (_WHOLE_NUMBER, "a whole number"),
}


class Processes(TypedDict, total=False):
    """The arguments for `jax.distributed.initialize`; none at all if JAX is to detect the cluster."""

    coordinator_address: str
    num_processes: int
    process_id: int


@dataclasses.dataclass(frozen=True)
class _Launcher:
    """What starts the processes of a run and tells each about the others.

    Attributes:
      what: its name in messages.
      size: the variable with the number of processes, by which a run of several is known.
      count: the variable with that number that JAX reads.
      rank: the variable with this process's number.
      local_rank: the variable with its number on its machine.
      others: further variables that JAX reads, each with its form as a regular expression.
      start: how to start a run.
    """

    what: str
    size: str
    count: str
    rank: str
    local_rank: str
    others: Mapping[str, str]
    start: str

    @property
    def forms(self) -> dict[str, str]:
        """All variables that JAX reads, with their forms."""
        return {**self.others, **dict.fromkeys((self.count, self.rank, self.local_rank), _WHOLE_NUMBER)}


_SLURM = _Launcher(
    what="Slurm",
    size="SLURM_STEP_NUM_TASKS",
    count="SLURM_NTASKS",
    rank="SLURM_PROCID",
    local_rank="SLURM_LOCALID",
    others={"SLURM_JOB_ID": _WHOLE_NUMBER, "SLURM_STEP_NODELIST": r"[^,\[\s]+.*"},
    start="start it with srun, which sets them all",
)
_OPEN_MPI = _Launcher(
    what="Open MPI",
    size="OMPI_COMM_WORLD_SIZE",
    count="OMPI_COMM_WORLD_SIZE",
    rank="OMPI_COMM_WORLD_RANK",
    local_rank="OMPI_COMM_WORLD_LOCAL_RANK",
    others={_ORTE_URI: r"[0-9]+\..*(tcp://[^,:]+[,:]|tcp6://\[[^,\]]+[,\]]).*"},
    start=f"start it with mpirun of Open MPI 4 (5 has no {_ORTE_URI}), or set {', '.join(VARIABLES)}",
)


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
        return _given(given)
    # Only inside `srun`: in the batch script itself SLURM_NTASKS is the whole job's, and no other process would join.
    if any(_several(environ.get(launcher.size, "")) for launcher in (_SLURM, _OPEN_MPI)):
        return {}
    if on_tpu_vm and _uses_tpu(environ):
        hosts = _tpu_hosts(environ)[1]
        several = "," in hosts if hosts else not environ.get("TPU_SKIP_MDS_QUERY")
        if several or _several(environ.get("MEGASCALE_NUM_SLICES", "")):
            return {}
    return None


def check_environment(environ: Mapping[str, str], on_tpu_vm: bool = False) -> None:
    """Checks the variables that JAX reads where a run has several processes: it fails without naming them.

    Args:
      environ: the environment variables.
      on_tpu_vm: whether this machine has TPU chips.

    Raises:
      MgmaeError: variables are missing or malformed; the message names them, and those to unset for a single process.
    """
    given = any(environ.get(name) for name in VARIABLES)
    launcher = _launcher(environ)
    if given:
        # JAX still takes this process's number on its machine, and so its device, from a launcher that it finds.
        if launcher is not None and not environ.get("JAX_LOCAL_DEVICE_IDS"):
            _check_forms(launcher, environ, {launcher.local_rank: _WHOLE_NUMBER}, launcher.local_rank)
    else:
        for known in (_OPEN_MPI, _SLURM):
            _check_size(known.size, environ)
        if launcher is not None:
            _check_launcher(launcher, environ)
        elif on_tpu_vm and _uses_tpu(environ):
            _check_tpu(environ)
    if given or processes_from_environment(environ, on_tpu_vm) is not None:
        for name, (form, want) in _OPTIONAL.items():
            if (value := environ.get(name)) and not re.fullmatch(form, value):
                raise MgmaeError(f"{name}={value!r}: give {want}, or unset it.")


def _given(given: Mapping[str, str]) -> Processes:
    if missing := [name for name in VARIABLES if name not in given]:
        raise MgmaeError(
            f"the environment sets {', '.join(given)} but not {', '.join(missing)}: set all three for a run of "
            "several processes, none for a run of one."
        )
    address, count, index = (given[name] for name in VARIABLES)
    host, _, port = address.rpartition(":")
    if re.search(r"[\s/]", host) or not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise MgmaeError(f"JAX_COORDINATOR_ADDRESS={address}: give HOST:PORT of process 0.")
    if not (count.isdecimal() and index.isdecimal() and int(index) < int(count)):
        raise MgmaeError(
            f"JAX_NUM_PROCESSES={count}, JAX_PROCESS_ID={index}: give a number of processes, and this one's "
            "number, which counts from 0."
        )
    return {"coordinator_address": address, "num_processes": int(count), "process_id": int(index)}


def _several(number: str) -> bool:
    return number.isdecimal() and int(number) > 1


def _launcher(environ: Mapping[str, str]) -> _Launcher | None:
    """The launcher that JAX would take, or else one of which some variables are there; None for a single process."""
    if not any(_several(environ.get(known.size, "")) for known in (_SLURM, _OPEN_MPI)):
        half = _OPEN_MPI.rank in environ and not environ.get(_OPEN_MPI.size)  # it always sets both
        return _OPEN_MPI if half else None
    if _ORTE_URI in environ:
        return _OPEN_MPI
    if _several(environ.get(_SLURM.size, "")) and all(name in environ for name in _SLURM.forms):
        return _SLURM
    return _OPEN_MPI if _several(environ.get(_OPEN_MPI.size, "")) else _SLURM


def _check_launcher(launcher: _Launcher, environ: Mapping[str, str]) -> None:
    shown = launcher.size if environ.get(launcher.size) else launcher.rank
    _check_forms(launcher, environ, launcher.forms, shown)
    count, rank, size = (int(environ.get(name) or 0) for name in (launcher.count, launcher.rank, launcher.size))
    if count != size or rank >= count:
        names = dict.fromkeys((launcher.size, launcher.count, launcher.rank))
        values = ", ".join(f"{name}={environ.get(name, '')!r}" for name in names)
        raise MgmaeError(
            f"{values}: these contradict each other. For a run of several processes {launcher.start}; for a run of one "
            f"unset {shown}."
        )


def _check_forms(launcher: _Launcher, environ: Mapping[str, str], forms: Mapping[str, str], shown: str) -> None:
    """Checks that all variables of `forms` are set and well formed; `shown` is the one that makes JAX read them."""
    missing = [name for name in forms if not environ.get(name)]
    present = [name for name in forms if name not in missing]
    wrong = [f"{name}={environ[name]!r}" for name in present if not re.fullmatch(forms[name], environ[name], re.DOTALL)]
    if missing or wrong:
        faults = [f"{', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} malformed"] if wrong else []
        faults += [f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set"] if missing else []
        sign = f"{shown}={environ.get(shown, '')!r}"
        raise MgmaeError(
            f"{sign} says that {launcher.what} started several processes, but {' and '.join(faults)}. For such a run "
            f"{launcher.start}; for a run of one process unset {shown}."
        )


def _check_size(name: str, environ: Mapping[str, str]) -> None:
    value = environ.get(name)
    if value and not (value.isdecimal() and int(value) > 0):
        raise MgmaeError(f"{name}={value!r}: give the number of processes, or unset it for a run of one.")


def _uses_tpu(environ: Mapping[str, str]) -> bool:
    return (environ.get("JAX_PLATFORMS") or "tpu").startswith("tpu")


def _tpu_hosts(environ: Mapping[str, str]) -> tuple[str, str]:
    """The variable that lists the hosts of a TPU slice, and its value."""
    for name in ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES"):
        if hosts := environ.get(name):
            return name, hosts
    return "TPU_WORKER_HOSTNAMES", ""


def _check_tpu(environ: Mapping[str, str]) -> None:
    """Checks the variables of a TPU slice in GKE; on other TPU machines JAX asks the metadata server for them."""
    name, hosts = _tpu_hosts(environ)
    _check_size("MEGASCALE_NUM_SLICES", environ)
    slices = int(environ.get("MEGASCALE_NUM_SLICES") or 1)
    lists = [(name, hosts, "TPU_WORKER_ID", hosts.count(",") + 1)] if "," in hosts else []
    lists += [("MEGASCALE_NUM_SLICES", str(slices), "MEGASCALE_SLICE_ID", slices)] if slices > 1 else []
    for several, value, number, count in lists:
        own = environ.get(number, "")
        if not own.isdecimal() or int(own) >= count:
            raise MgmaeError(
                f"{several}={value} says that there are {count}, but {number} is "
                f"{repr(own) if own else 'not set'}: give this one's number, from 0 to {count - 1}; for a run of one "
                f"process unset {several} and set TPU_SKIP_MDS_QUERY=1."
            )
    if slices > 1 and not environ.get("MEGASCALE_COORDINATOR_ADDRESS"):
        raise MgmaeError(
            f"MEGASCALE_NUM_SLICES={slices}, but MEGASCALE_COORDINATOR_ADDRESS is not set: give the first host of the "
            "first slice; for a run of one slice unset MEGASCALE_NUM_SLICES."
        )
