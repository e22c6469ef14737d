import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
LOCAL = str(LAUNCH / "local.sh")


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
        assert run.wait(timeout=60) == 143


def test_the_command_for_a_tpu_keeps_arguments_whole(tmp_path: Path):
    gcloud = tmp_path / "gcloud"
    gcloud.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    gcloud.chmod(0o755)
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TPU": "pod", "ZONE": "z"}
    command = [str(LAUNCH / "tpu_vm.sh"), "pretrain", "--workdir", "/mnt/my runs"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=True)
    assert done.stdout.splitlines() == [
        *("compute", "tpus", "tpu-vm", "ssh", "pod", "--zone=z", "--worker=all"),
        r"--command=cd mgmae-jax && exec .venv/bin/mgmae pretrain --workdir /mnt/my\ runs",
    ]
    missing = subprocess.run(command, capture_output=True, text=True, env=environ | {"ZONE": ""})
    assert missing.returncode != 0
    assert "zone of the TPU" in missing.stderr


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
@pytest.mark.parametrize("script", ["local.sh", "slurm.sbatch", "tpu_vm.sh"])
def test_scripts_are_clean(script: str):
    done = subprocess.run(["shellcheck", str(LAUNCH / script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
