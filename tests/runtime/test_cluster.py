import os
import re
from collections.abc import Mapping

import pytest
from jax._src.clusters import OmpiCluster, SlurmCluster

from mgmae_jax.errors import MgmaeError
from mgmae_jax.runtime.cluster import check_environment, processes_from_environment

JAX = {"JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
SLURM = {
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_JOB_ID": "123",
    "SLURM_STEP_NODELIST": "node[001-002],other",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
}
TPU = {"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "1"}
SLICES = TPU | {"MEGASCALE_NUM_SLICES": "2", "MEGASCALE_SLICE_ID": "1", "MEGASCALE_COORDINATOR_ADDRESS": "a"}


def without(environ: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name not in names}


def told(environ: Mapping[str, str], on_tpu_vm: bool = False) -> str:
    with pytest.raises(MgmaeError) as error:
        check_environment(environ, on_tpu_vm)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("environ", "on_tpu_vm"),
    [
        ({}, False),
        ({}, True),
        (JAX, False),
        (SLURM, False),
        (SLURM | {"SLURM_STEP_NODELIST": "node001"}, False),
        (without(SLURM, "SLURM_STEP_NUM_TASKS"), False),  # a shell inside the job
        ({"SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, False),  # the batch script
        (OPEN_MPI, False),
        (OPEN_MPI | {"OMPI_MCA_orte_hnp_uri": "1314521088.0;tcp6://[fe80::b9b,2620:10d::2]:43370"}, False),
        (OPEN_MPI | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_JOB_ID": "1"}, False),  # mpirun inside a Slurm job
        (SLURM | {"OMPI_COMM_WORLD_SIZE": "2"}, False),
        (JAX | {"SLURM_STEP_NUM_TASKS": "2", "OMPI_COMM_WORLD_SIZE": "2", "JAX_LOCAL_DEVICE_IDS": "0"}, False),
        (TPU, True),
        (SLICES, True),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, False),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "JAX_PLATFORMS": "cpu"}, True),
        (JAX | {"JAX_LOCAL_DEVICE_IDS": "0,1,2"}, False),
        ({"JAX_LOCAL_DEVICE_IDS": "which?"}, False),  # JAX does not read it in a run of one process
    ],
)
def test_an_environment_that_jax_understands_passes(environ: Mapping[str, str], on_tpu_vm: bool):
    check_environment(environ, on_tpu_vm)


@pytest.mark.parametrize(("cluster", "environ"), [(SlurmCluster, SLURM), (OmpiCluster, OPEN_MPI)])
def test_what_passes_is_what_jax_needs(monkeypatch: pytest.MonkeyPatch, cluster, environ: Mapping[str, str]):
    for name in {*SLURM, *OPEN_MPI} & {*os.environ}:
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert cluster.is_env_present()
    assert re.fullmatch(r"\S+:\d+", cluster.get_coordinator_address(1, None))
    assert (cluster.get_process_count(), cluster.get_process_id(), cluster.get_local_process_id()) == (2, 1, 0)


def test_a_step_size_alone_is_told_with_what_is_missing_and_what_to_unset():
    assert told({"SLURM_STEP_NUM_TASKS": "2"}) == (
        "SLURM_STEP_NUM_TASKS='2' says that Slurm started several processes, but SLURM_JOB_ID, SLURM_STEP_NODELIST, "
        "SLURM_NTASKS, SLURM_PROCID, SLURM_LOCALID are not set. For such a run start it with srun, which sets them "
        "all; for a run of one process unset SLURM_STEP_NUM_TASKS."
    )
    message = told({"OMPI_COMM_WORLD_SIZE": "2"})
    names = "OMPI_MCA_orte_hnp_uri, OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_LOCAL_RANK"
    assert message.startswith(f"OMPI_COMM_WORLD_SIZE='2' says that Open MPI started several processes, but {names} are")
    assert message.endswith("for a run of one process unset OMPI_COMM_WORLD_SIZE.")


@pytest.mark.parametrize("missing", without(SLURM, "SLURM_STEP_NUM_TASKS"))
def test_any_missing_variable_of_slurm_is_named(missing: str):
    for environ in (without(SLURM, missing), SLURM | {missing: ""}):
        assert f"but {missing} is not set. For such a run start it with srun" in told(environ)


@pytest.mark.parametrize("missing", OPEN_MPI)
def test_any_missing_variable_of_open_mpi_is_named(missing: str):
    assert f"{missing} is not set. For such a run start it with mpirun" in told(without(OPEN_MPI, missing))


@pytest.mark.parametrize(
    ("environ", "name", "value"),
    [
        (SLURM, "SLURM_JOB_ID", "12a"),
        (SLURM, "SLURM_STEP_NODELIST", ",node"),
        (SLURM, "SLURM_NTASKS", "two"),
        (SLURM, "SLURM_PROCID", "-1"),
        (SLURM, "SLURM_LOCALID", " 0"),
        (OPEN_MPI, "OMPI_COMM_WORLD_RANK", "first"),
        (OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_RANK", "0.5"),
        (OPEN_MPI, "OMPI_MCA_orte_hnp_uri", "x.0;tcp://10.96.0.1:34911"),
        (OPEN_MPI, "OMPI_MCA_orte_hnp_uri", "1531576320.0"),
    ],
)
def test_a_malformed_variable_is_named_with_its_value(environ: Mapping[str, str], name: str, value: str):
    assert f"but {name}={value!r} is malformed. For such a run" in told({**environ, name: value})


@pytest.mark.parametrize(
    ("environ", "name"),
    [(SLURM, "SLURM_STEP_NUM_TASKS"), (OPEN_MPI, "OMPI_COMM_WORLD_SIZE"), (SLICES, "MEGASCALE_NUM_SLICES")],
)
@pytest.mark.parametrize("value", ["two", "0", "-2", "1.5"])
def test_a_number_of_processes_that_is_none_is_told(environ: Mapping[str, str], name: str, value: str):
    want = f"{name}={value!r}: give the number of processes, or unset it for a run of one."
    assert told({**environ, name: value}, on_tpu_vm=True) == want


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        (SLURM | {"SLURM_NTASKS": "8"}, "SLURM_STEP_NUM_TASKS='2', SLURM_NTASKS='8', SLURM_PROCID='1'"),
        (SLURM | {"SLURM_PROCID": "2"}, "SLURM_STEP_NUM_TASKS='2', SLURM_NTASKS='2', SLURM_PROCID='2'"),
        (OPEN_MPI | {"OMPI_COMM_WORLD_RANK": "2"}, "OMPI_COMM_WORLD_SIZE='2', OMPI_COMM_WORLD_RANK='2'"),
    ],
)
def test_numbers_that_contradict_each_other_are_told(environ: Mapping[str, str], names: str):
    assert told(environ).startswith(f"{names}: these contradict each other. For a run of several processes start it")


@pytest.mark.parametrize(
    ("environ", "start"),
    [
        (
            without(TPU, "TPU_WORKER_ID"),
            "TPU_WORKER_HOSTNAMES=a,b says that there are 2, but TPU_WORKER_ID is not set:",
        ),
        (TPU | {"TPU_WORKER_ID": "2"}, "TPU_WORKER_HOSTNAMES=a,b says that there are 2, but TPU_WORKER_ID is '2':"),
        ({"TPU_PROCESS_ADDRESSES": "a:1,b:1", "TPU_WORKER_ID": "x"}, "TPU_PROCESS_ADDRESSES=a:1,b:1 says that there"),
        (without(SLICES, "MEGASCALE_SLICE_ID"), "MEGASCALE_NUM_SLICES=2 says that there are 2, but MEGASCALE_SLICE_ID"),
        (
            without(SLICES, "MEGASCALE_COORDINATOR_ADDRESS"),
            "MEGASCALE_NUM_SLICES=2, but MEGASCALE_COORDINATOR_ADDRESS is not set",
        ),
    ],
)
def test_half_of_the_variables_of_a_tpu_slice_is_told(environ: Mapping[str, str], start: str):
    assert told(environ, on_tpu_vm=True).startswith(start)
    check_environment(environ | {"JAX_PLATFORMS": "cpu"}, on_tpu_vm=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JAX_LOCAL_DEVICE_IDS", "0,a"),
        ("JAX_LOCAL_DEVICE_IDS", "0,"),
        ("JAX_COORDINATOR_PORT", "http"),
        ("JAX_COORDINATOR_BIND_ADDRESS", "0.0.0.0"),
        ("JAX_PARTITION_INDEX", "first"),
    ],
)
def test_a_malformed_optional_variable_is_told(name: str, value: str):
    for environ in (JAX, SLURM):
        message = told(environ | {name: value})
        assert message.startswith(f"{name}={value!r}: give ")
        assert message.endswith(", or unset it.")


def test_a_device_by_the_launchers_number_needs_that_number():
    environ = JAX | OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_RANK": "x"}
    assert "OMPI_COMM_WORLD_LOCAL_RANK='x' is malformed" in told(environ)
    check_environment(environ | {"JAX_LOCAL_DEVICE_IDS": "0"})


def test_no_platform_is_any_platform():
    environ = {"TPU_WORKER_HOSTNAMES": "a,b", "JAX_PLATFORMS": ""}
    assert processes_from_environment(environ, on_tpu_vm=True) == {}
