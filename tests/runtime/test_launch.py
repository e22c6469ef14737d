import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mgmae_jax.commands.config_file import load_config

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
LOCAL = str(LAUNCH / "local.sh")
# That of this Python's environment, which need not be activated, or the system's.
SHELLCHECK = shutil.which("shellcheck", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


def local(*arguments: str, **options: object) -> subprocess.CompletedProcess:
    return subprocess.run([LOCAL, *arguments], capture_output=True, text=True, timeout=120, **options)


@contextlib.contextmanager
def started(*command: str, **environ: str) -> Iterator[subprocess.Popen]:
    """Two processes under local.sh, in a group of their own of which nothing is left over."""
    run = subprocess.Popen(
        [LOCAL, "-n", "2", "--devices-per-process", "1", "--", *command],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environ,
        start_new_session=True,
    )
    try:
        yield run
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.communicate()


def test_one_process_is_the_command_itself():
    done = local("--", "bash", "-c", 'echo "$1 ${JAX_COORDINATOR_ADDRESS-none}"; exit 3', "-", "two words")
    assert (done.returncode, done.stdout) == (3, "two words none\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no command"),
        (["-n", "2"], "no command"),
        (["-n"], "-n: give a number"),
        (["-n", "--", "true"], "-n: give a number"),
        (["--devices-per-process"], "--devices-per-process: give a number"),
        (["-n", "two", "--", "true"], "-n two: give a number of processes"),
        (["--devices-per-process", "0", "--", "true"], "give a number of devices"),
        (["--wide", "--", "true"], "unknown option --wide"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(arguments: list[str], message: str):
    done = local(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_help_shows_commands():
    done = local("--help")
    assert done.returncode == 0
    assert "launch/local.sh -n 4 -- mgmae pretrain" in done.stdout


def test_a_real_run_of_two_processes_with_two_devices_each():
    program = (
        "import jax; from mgmae_jax.runtime.distributed import initialize; initialize(60); "
        "import os; os.write(1, b'devices %d process %d\\n' % (jax.device_count(), jax.process_index()))"
    )
    environ = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = local("-n", "2", "--devices-per-process", "2", "--", sys.executable, "-c", program, env=environ)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "devices 4 process 0" in lines
    assert "[1] devices 4 process 1" in lines


def test_when_one_process_fails_the_others_end_and_its_status_is_returned():
    stuck = "if ((JAX_PROCESS_ID == 1)); then echo lost >&2; exit 7; fi; exec sleep 1000"
    done = local("-n", "3", "--devices-per-process", "1", "--", "bash", "-c", stuck)
    assert done.returncode == 7
    assert "[1] lost" in done.stderr
    assert "ended with status 7; ending the others" in done.stderr


def test_the_status_is_that_of_the_failure_and_not_of_those_who_left_because_of_it():
    fails_last = "if ((JAX_PROCESS_ID)); then exit 3; fi; sleep 1; exit 7"
    done = local("-n", "2", "--devices-per-process", "1", "--", "bash", "-c", fails_last)
    assert done.returncode == 7
    assert "ended with status 7; ending the others" in done.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_every_process_save_and_leave(number: signal.Signals, status: int):
    program = (
        "import os, signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "os.write(1, b'ready\\n')\n"
        "signal.sigwait([signal.SIGTERM])\n"
        "os.write(1, b'saved\\n')"
    )
    with started(sys.executable, "-c", program) as run:
        assert sorted(run.stdout.readline() for _ in range(2)) == ["[1] ready\n", "ready\n"]
        # The terminal's Ctrl-C goes to the whole group; a scheduler's SIGTERM to the script.
        (os.killpg if number == signal.SIGINT else os.kill)(run.pid, number)
        assert sorted(run.stdout.read().splitlines()) == ["[1] saved", "saved"]
        assert run.wait(timeout=60) == status


def test_processes_that_do_not_leave_are_ended_after_the_grace_time():
    stuck = "trap '' TERM; echo ready; while :; do sleep 1000; done"
    with started("bash", "-c", stuck, MGMAE_GRACE="0.1") as run:
        for _ in range(2):
            assert run.stdout.readline().endswith("ready\n")
        os.kill(run.pid, signal.SIGTERM)
        assert run.wait(timeout=60) == 137


def test_a_run_that_could_not_save_has_its_own_status():
    fails = "trap 'exit $((JAX_PROCESS_ID ? 3 : 1))' TERM; echo ready; while :; do sleep 0.1; done"
    with started("bash", "-c", fails) as run:
        for _ in range(2):
            assert run.stdout.readline().endswith("ready\n")
        os.kill(run.pid, signal.SIGTERM)
        assert run.wait(timeout=60) == 1


def program(folder: Path, name: str, script: str) -> None:
    """Puts a shell script in a folder under the name of a program."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that come before the system's."""
    (tmp_path / "programs").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}:{os.environ['PATH']}")
    return tmp_path / "programs"


@pytest.fixture
def slurm(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., subprocess.CompletedProcess]:
    """Runs the batch script as a job of 12 cores a task, whose step ends with a status; requeues are in a file."""
    program(programs, "srun", 'printf "%s\\n" "$@"; exit "$STEP_STATUS"')
    program(programs, "scontrol", f'echo "$@" >>"{tmp_path}/scontrol"')
    program(tmp_path / "venv_bin", "mgmae", "")
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "activate").write_text(f"PATH={tmp_path}/venv_bin:$PATH")
    job = {"SLURM_CPUS_PER_TASK": "12", "SLURM_JOB_ID": "7", "VENV": str(tmp_path / "venv"), "STEP_STATUS": "0"}

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess:
        command = ["bash", str(LAUNCH / "slurm.sbatch"), *arguments]
        path = f"{programs}:/usr/bin:/bin"  # without the mgmae of these tests
        return subprocess.run(command, capture_output=True, text=True, env={"PATH": path} | job | environ, timeout=60)

    return run


def test_under_slurm_each_task_has_its_cores_and_workers_for_them(slurm: Callable[..., subprocess.CompletedProcess]):
    done = slurm("pretrain", "--config", "demo", "--workdir", "my runs")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        *("--kill-on-bad-exit=1", "--cpus-per-task=12", "--gpu-bind=none", "--label"),
        *("mgmae", "pretrain", "--config.data.workers=10", "--config", "demo", "--workdir", "my runs"),
    ]
    assert "--config.data.workers=1\n" in slurm("probe", SLURM_CPUS_PER_TASK="2").stdout
    assert "workers" not in slurm("train-flow").stdout  # it has no such field
    assert "\n--workers=10\n" in slurm("features", "LIST").stdout


@pytest.mark.parametrize(
    ("tasks", "given", "devices"), [("1", None, "0,1,2,3"), ("4", None, "none"), ("1", "2,3", "2,3")]
)
def test_the_one_task_of_a_node_has_all_its_gpus(
    slurm: Callable[..., subprocess.CompletedProcess], programs: Path, tasks: str, given: str | None, devices: str
):
    program(programs, "srun", 'echo "${JAX_LOCAL_DEVICE_IDS-none}"')
    environ = {} if given is None else {"JAX_LOCAL_DEVICE_IDS": given}
    done = slurm("pretrain", SLURM_NTASKS_PER_NODE=tasks, SLURM_GPUS_ON_NODE="4", **environ)
    assert done.stdout == f"{devices}\n"


def test_workers_given_to_slurm_by_hand_count(slurm: Callable[..., subprocess.CompletedProcess]):
    words = slurm("pretrain", "--config.data.workers=3").stdout.splitlines()
    assert load_config("demo", words[words.index("pretrain") + 1 :]).data.workers == 3


@pytest.mark.parametrize(("status", "again"), [(0, False), (1, False), (3, False), (137, False), (143, True)])
def test_a_job_that_sigterm_stopped_is_queued_again_and_no_other(
    slurm: Callable[..., subprocess.CompletedProcess], tmp_path: Path, status: int, again: bool
):
    assert slurm("pretrain", STEP_STATUS=str(status)).returncode == status
    assert (tmp_path / "scontrol").exists() == again
    if again:
        assert (tmp_path / "scontrol").read_text() == "requeue 7\n"


@pytest.mark.parametrize(("left", "again"), [(3600, False), (300, True), (-10, True)])
def test_tasks_that_srun_ended_because_one_failed_are_not_queued_again(
    slurm: Callable[..., subprocess.CompletedProcess], tmp_path: Path, left: int, again: bool
):
    """It ends them by SIGTERM and returns that status, which says that a run is saved only as the time runs out."""
    done = slurm("pretrain", STEP_STATUS="143", SLURM_JOB_END_TIME=str(int(time.time()) + left))
    assert done.returncode == 143
    assert (tmp_path / "scontrol").exists() == again


def test_what_a_slurm_job_lacks_is_told(slurm: Callable[..., subprocess.CompletedProcess]):
    for arguments, environ, message in [
        ([], {}, "no command: give mgmae's"),
        (["pretrain"], {"VENV": "/nowhere"}, "VENV=/nowhere: there is no /nowhere/bin/activate"),
        (["pretrain"], {"VENV": ""}, "no mgmae on PATH: set VENV"),
    ]:
        done = slurm(*arguments, **environ)
        assert done.returncode == 2
        assert message in done.stderr


Tpu = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def tpu(programs: Path, tmp_path: Path) -> Tpu:
    """Runs tpu_vm.sh with a gcloud that does on a home folder here what it would do on each host."""
    home = tmp_path / "home"
    (home / "mgmae-jax").mkdir(parents=True)
    on_host = 'for word; do case $word in --command=*) cd "$HOME" && exec bash -c "${word#--command=}" ;; esac; done'
    program(
        programs,
        "gcloud",
        f"""echo "gcloud ${{*//$'\\n'*/...}}"
case $4 in scp) cp "$5" "$HOME/${{6#*:}}" ;; ssh) {on_host} ;; esac""",
    )
    for name in ("systemd-run", "systemctl", "tail"):
        program(programs, name, f'printf "%s\\n" {name} "$@"; exit "${{STATUS:-0}}"')
    program(programs, "sudo", 'exec "$@"')
    program(programs, "installed", 'echo "${0##*/} $*"')
    # Makes what the script looks at afterwards.
    program(
        programs,
        "uv",
        'echo uv "$@"; mkdir -p .venv/bin; for p in python mgmae; do ln -sf "$(type -P installed)" .venv/bin/$p; done',
    )

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess:
        known = os.environ | {"TPU": "pod", "ZONE": "z", "HOME": str(home)} | environ
        return subprocess.run(
            [str(LAUNCH / "tpu_vm.sh"), *arguments], capture_output=True, text=True, env=known, timeout=60
        )

    return run


SUBCOMMANDS = [
    ("create", "v5litepod-64", "v2-alpha-tpuv5-lite", "--spot"),
    ("install",),
    ("run", "pretrain", "--workdir", "/mnt/my runs"),
    ("logs",),
    ("logs", "3"),
    ("stop",),
    ("delete",),
]


@pytest.mark.parametrize("words", SUBCOMMANDS, ids=" ".join)
def test_a_dry_run_prints_what_would_run_and_runs_nothing(tpu: Tpu, programs: Path, words: tuple[str, ...]):
    expected = tpu(*words)
    assert expected.returncode == 0, expected.stderr
    gcloud = (programs / "gcloud").read_text()
    program(programs, "gcloud", "exit 99")
    printed = tpu("--dry-run", *words)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert printed.stdout.count("gcloud compute tpus tpu-vm ") == (2 if words == ("install",) else 1)
    if words != ("install",):  # whose archive has another name each time
        (programs / "gcloud").write_text(gcloud)
        home = {"HOME": str(programs.parent / "home")}
        again = subprocess.run(["bash", "-c", printed.stdout], capture_output=True, text=True, env=os.environ | home)
        assert again.stdout == expected.stdout


def test_a_tpu_is_made_and_deleted_by_name(tpu: Tpu):
    assert tpu("--dry-run", *SUBCOMMANDS[0]).stdout == (
        "gcloud compute tpus tpu-vm create pod --zone=z --accelerator-type=v5litepod-64 "
        "--version=v2-alpha-tpuv5-lite --spot\n"
    )
    assert tpu("--dry-run", "delete").stdout == "gcloud compute tpus tpu-vm delete pod --zone=z\n"


def test_the_project_is_installed_on_every_host(tpu: Tpu, tmp_path: Path):
    old = tmp_path / "home" / "mgmae-jax" / "configs" / "of_an_older_version.py"
    old.parent.mkdir(parents=True)
    old.touch()
    done = tpu("install")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("--worker=all") == 2
    folder = tmp_path / "home" / "mgmae-jax"
    names = {path.name for path in folder.iterdir()}
    assert names == {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "mgmae_jax", "configs", ".venv"}
    assert not old.exists()
    assert not list(folder.rglob("__pycache__"))
    assert "uv venv --quiet --allow-existing --python >=3.11,<3.13 .venv\n" in done.stdout
    assert "uv pip install" in done.stdout
    assert ".[tpu]\n" in done.stdout
    assert done.stdout.splitlines()[-1].endswith(": mgmae --version, python --version")


def test_a_host_without_python_says_so(tpu: Tpu, programs: Path):
    program(programs, "uv", "exit 1")
    done = tpu("install")
    assert done.returncode == 1
    assert "there is no Python 3.11 or 3.12, and uv could not get one" in done.stderr


@pytest.mark.parametrize("folder", ["mgmae-jax", "my project"])
def test_a_run_on_a_tpu_is_detached_and_its_arguments_stay_whole(tpu: Tpu, tmp_path: Path, folder: str):
    (tmp_path / "home" / folder).mkdir(exist_ok=True)
    environ = {"MGMAE_CACHE": "/mnt/the cache", "FOLDER": folder}
    done = tpu("run", "pretrain", "--workdir", "/mnt/my runs", "--config.data.path=a$b", **environ)
    assert done.returncode == 0, done.stderr
    words = done.stdout.partition("systemd-run\n")[2].splitlines()
    here = str(tmp_path / "home" / folder)
    assert words[-5:] == [f"{here}/.venv/bin/mgmae", "pretrain", "--workdir", "/mnt/my runs", "--config.data.path=a$$b"]
    assert {"--unit=mgmae", f"--working-directory={here}", "KillMode=mixed", "TimeoutStopSec=300"} < set(words)
    assert {f"StandardOutput=append:{here}/mgmae.log", "--setenv=MGMAE_CACHE=/mnt/the cache"} < set(words)


@pytest.mark.parametrize(("status", "returned"), [("0", 0), ("5", 0), ("1", 1)])
def test_stopping_a_run_that_has_ended_is_not_an_error(tpu: Tpu, status: str, returned: int):
    done = tpu("stop", STATUS=status)
    assert done.returncode == returned
    assert done.stdout.splitlines()[1:] == ["systemctl", "stop", "mgmae"]


def test_logs_are_those_of_a_host(tpu: Tpu):
    assert "--worker=0" in tpu("logs").stdout
    assert "--worker=3" in tpu("logs", "3").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no subcommand: give create"),
        (["pretrain"], "unknown subcommand pretrain: give create"),
        (["--loud", "logs"], "unknown option --loud"),
        (["create", "v5litepod-64"], "create: give the type and the image"),
        (["run"], "run: give the command of mgmae"),
        (["logs", "all"], "logs all: give the number of a host"),
        (["logs", "1", "--dry-run"], "logs 1 --dry-run: give the number of a host"),
        (["delete", "--dry-run"], "delete takes no arguments; --dry-run comes before it"),
        (["stop", "--dry-run"], "stop takes no arguments; --dry-run comes before it"),
        (["install", "pod"], "install takes no arguments"),
    ],
)
def test_a_wrong_call_about_a_tpu_says_what_is_wrong(tpu: Tpu, arguments: list[str], message: str):
    done = tpu(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_a_tpu_needs_a_name_and_a_zone(tpu: Tpu):
    assert "zone of the TPU" in tpu("logs", ZONE="").stderr
    assert "name of the TPU" in tpu("logs", TPU="").stderr
    assert "launch/tpu_vm.sh install" in tpu("--help", TPU="", ZONE="").stdout


@pytest.mark.skipif(SHELLCHECK is None, reason="needs shellcheck: pip install -e '.[dev]'")
@pytest.mark.parametrize("script", ["local.sh", "slurm.sbatch", "tpu_vm.sh"])
def test_scripts_are_clean(script: str):
    done = subprocess.run([SHELLCHECK, str(LAUNCH / script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
