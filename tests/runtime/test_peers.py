import json

import jax
import pytest

from mgmae_jax.errors import FileError, PeerError
from mgmae_jax.runtime import peers
from mgmae_jax.runtime.peers import FAILED_ELSEWHERE, SILENCE_S, Peers


class Left(BaseException):
    """The process ended, with a status."""


class Store:
    """The key-value store of a run, as JAX's client has it."""

    def __init__(self):
        self.entries: dict[str, str] = {}

    def key_value_set(self, key, value, allow_overwrite=False):
        if key in self.entries and not allow_overwrite:
            raise jax.errors.JaxRuntimeError("ALREADY_EXISTS")
        self.entries[key] = value

    def key_value_try_get(self, key):
        if key not in self.entries:
            raise jax.errors.JaxRuntimeError("NOT_FOUND")
        return self.entries[key]

    def key_value_dir_get(self, folder):
        return [(key, value) for key, value in self.entries.items() if key.startswith(folder)]


class Run:
    """The processes of a run, with a clock and exits of their own."""

    def __init__(self, count, monkeypatch):
        self.store, self.now = Store(), 0.0
        self.processes = [Peers(self.store, i, count, lambda: self.now, self._leave) for i in range(count)]
        monkeypatch.setattr(peers.time, "monotonic", self._passing)
        monkeypatch.setattr(peers.time, "sleep", lambda seconds: None)

    def _passing(self):
        self.now += 0.5
        return self.now

    def _leave(self, status):
        raise Left(status)

    def pass_time(self, seconds, living):
        """Lets the living processes look at each other once a second; returns the statuses of those that end."""
        ended = {}
        for _ in range(int(seconds)):
            self.now += 1
            for i in [i for i in living if i not in ended]:
                try:
                    self.processes[i].look()
                except Left as left:
                    ended[i] = left.args[0]
        return ended


@pytest.fixture
def run(monkeypatch):
    return lambda count: Run(count, monkeypatch)


def leave(process, told, error):
    with pytest.raises(Left) as left:
        process.leave(told, 1, error)
    return left.value.args[0]


def test_living_processes_go_on(run, capsys):
    assert run(3).pass_time(200, [0, 1, 2]) == {}
    assert capsys.readouterr().err == ""


def test_a_silent_process_ends_the_others_once_it_has_been_silent_for_long(run, capsys):
    three = run(3)
    three.pass_time(10, [0, 1, 2])
    assert three.pass_time(SILENCE_S - 1, [0, 2]) == {}
    assert three.pass_time(5, [0, 2]) == {0: FAILED_ELSEWHERE, 2: FAILED_ELSEWHERE}
    assert capsys.readouterr().err.count("process 1 of 3 has given no sign of life for 40 s: it was killed") == 2


def test_an_error_is_printed_where_it_is_and_the_others_say_which_process_it_was(run, capsys):
    three = run(3)
    three.pass_time(3, [0, 1, 2])
    assert leave(three.processes[1], "mgmae pretrain: a.mp4: is empty", FileError("a.mp4", "is empty")) == 1
    assert capsys.readouterr().err == "\nmgmae pretrain: a.mp4: is empty\n"
    assert three.pass_time(5, [0, 2]) == {0: FAILED_ELSEWHERE, 2: FAILED_ELSEWHERE}
    printed = capsys.readouterr().err
    assert printed.count("process 1 of 3, on ") == 2
    assert "is empty" not in printed


def test_the_same_error_in_every_process_is_printed_once(run, capsys):
    two = run(2)
    assert [leave(process, "the same", FileError("a", "b")) for process in two.processes[::-1]] == [1, 1]
    assert capsys.readouterr().err.count("the same") == 1


def test_another_error_is_printed_too(run, capsys):
    two = run(2)
    for process, told in zip(two.processes, ("this", "that"), strict=True):
        assert leave(process, told, FileError("a", "b")) == 1
    assert capsys.readouterr().err == "\nthis\n\nthat\n"


def test_an_agreed_error_of_another_process_is_not_repeated(run, capsys):
    two = run(2)
    leave(two.processes[1], "mgmae pretrain: a: b", FileError("a", "b"))
    capsys.readouterr()
    assert leave(two.processes[0], "mgmae pretrain: process 1: a: b", PeerError("process 1: a: b")) == FAILED_ELSEWHERE
    assert capsys.readouterr().err.startswith("\nprocess 1 of 2, on ")


def test_a_process_that_stops_with_another_waits_until_that_one_has_told_why(run, monkeypatch, capsys):
    two = run(2)
    told = json.dumps({"process": 1, "host": "there", "message": "a: b"})
    monkeypatch.setattr(peers.time, "sleep", lambda seconds: two.store.entries.setdefault(peers._ERROR, told))
    assert leave(two.processes[0], "mgmae pretrain: process 1: a: b", PeerError("process 1: a: b")) == FAILED_ELSEWHERE
    assert capsys.readouterr().err == "\nprocess 1 of 2, on there, has failed and explains why: stopping too\n"


@pytest.mark.parametrize("error", ["Gloo AllGather failed: Connection closed by peer", "INTERNAL: something odd"])
def test_a_broken_collective_is_put_down_to_the_process_that_failed(run, capsys, error):
    two = run(2)
    leave(two.processes[1], "out of memory", MemoryError())
    capsys.readouterr()
    assert leave(two.processes[0], "Traceback ...", ValueError(error)) == FAILED_ELSEWHERE
    printed = capsys.readouterr().err
    assert "process 1 of 2" in printed
    assert "Traceback" not in printed


def test_a_checkpoint_that_fails_for_want_of_a_process_is_put_down_to_it(run, capsys):
    two = run(2)
    leave(two.processes[1], "out of memory", MemoryError())
    failed = FileError("run/checkpoints", "could not be saved")
    failed.__cause__ = ValueError("wrapped by Orbax")
    failed.__cause__.__cause__ = RuntimeError("UNKNOWN: Gloo AllGather failed: Connection closed by peer")
    assert leave(two.processes[0], "run/checkpoints: could not be saved", failed) == FAILED_ELSEWHERE
    assert "could not be saved" not in capsys.readouterr().err


def test_an_error_of_a_file_is_told_at_once_whatever_its_name(run, capsys):
    two = run(2)
    leave(two.processes[1], "out of memory", MemoryError())
    failed = FileError("gloo/deadline.mp4", "is empty")
    failed.__cause__ = OSError("no space left on device")
    assert leave(two.processes[0], "gloo/deadline.mp4: is empty", failed) == 1
    assert "gloo/deadline.mp4: is empty" in capsys.readouterr().err


def test_an_unexpected_exception_that_nobody_else_explains_is_printed(run, capsys):
    two = run(2)
    assert leave(two.processes[0], "Traceback ...", TypeError("wrong")) == 1
    assert capsys.readouterr().err == "\nTraceback ...\n"
    assert json.loads(two.store.entries["mgmae_jax/error"])["process"] == 0


def test_process_0_leaves_once_the_others_have_read_its_error(run):
    three = run(3)
    three.store.entries |= {"mgmae_jax/left/1": "", "mgmae_jax/left/2": ""}
    before = three.now
    leave(three.processes[0], "error", FileError("a", "b"))
    early = three.now - before
    del three.store.entries["mgmae_jax/left/2"]
    before = three.now
    with pytest.raises(Left):
        three.processes[0].end("again", 1)
    assert early < three.now - before < 10


def test_a_store_that_is_gone_keeps_nobody(run, monkeypatch, capsys):
    two = run(2)

    def gone(*_, **__):
        raise jax.errors.JaxRuntimeError("UNAVAILABLE: Socket closed")

    for name in ("key_value_set", "key_value_try_get", "key_value_dir_get"):
        monkeypatch.setattr(two.store, name, gone)
    assert leave(two.processes[1], "error", FileError("a", "b")) == 1
    assert capsys.readouterr().err == "\nerror\n"


def test_a_run_of_one_process_has_no_peers():
    peers.watch()
    assert peers.current() is None


def test_what_one_process_posts_all_of_them_read(run):
    two = run(2)
    for process, name, value in ((0, "a.mp4", "is empty"), (1, "caf\udce9.mp4", "cut"), (1, "a.mp4", "is empty")):
        two.processes[process].post("bad_video", name, value)
    assert two.processes[0].posted("bad_video") == {"a.mp4": "is empty", "caf\udce9.mp4": "cut"}
    assert two.processes[1].posted("other") == {}
    assert two.pass_time(5, [0, 1]) == {}
