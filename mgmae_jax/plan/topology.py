"""The devices of a TPU slice that is not here, from libtpu."""

import importlib.util
import os

import jax
from jax.experimental import topologies

from mgmae_jax.errors import MgmaeError
from mgmae_jax.plan.chips import Machines

MISSING = "planning for TPUs needs the package libtpu, which is not installed: pip install 'mgmae-jax[plan]'"
_ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # without it, a lock file keeps a second process from loading libtpu
    "TPU_SKIP_MDS_QUERY": "1",  # there is no metadata server to ask
    # So that libtpu does not report that it is not on a TPU.
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}


def plan_on_cpu() -> None:
    """Lets this process trace and compile without any accelerator; before JAX's backend or libtpu starts."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    jax.config.update("jax_platforms", "cpu")


def check_libtpu() -> None:
    """Checks that libtpu is installed.

    Raises:
      MgmaeError: it is not.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise MgmaeError(MISSING)


def tpu_devices(machines: Machines) -> list[jax.Device]:
    """The devices of the slices, which programs can be compiled for and not run on.

    Raises:
      MgmaeError: libtpu is not installed, or it knows no such slice.
    """
    check_libtpu()
    options: dict[str, object] = {}
    if machines.chip.name == "v4":
        options["chip_config_name"] = "megacore"  # as JAX uses it: the two cores of a chip are one device
    if machines.slices > 1:
        options["num_slices"] = machines.slices
    try:
        devices = topologies.get_topology_desc(machines.topology, "tpu", **options).devices
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise MgmaeError(f"{machines.flag} {machines.text!r}: libtpu knows no such slice ({reason}).") from error
    return list(devices)
