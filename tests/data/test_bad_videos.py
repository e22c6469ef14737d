import errno
import json
from pathlib import Path

import pytest

from mgmae_jax.data.batches import BadVideos
from mgmae_jax.errors import FileError, MgmaeError


@pytest.fixture
def warnings_logged(monkeypatch):
    messages = []
    monkeypatch.setattr(
        "mgmae_jax.data.batches.logging.warning", lambda message, *args: messages.append(message % args)
    )
    return messages


def test_each_is_counted_logged_and_listed_once(tmp_path, warnings_logged):
    path = tmp_path / "bad_videos.jsonl"
    bad = BadVideos(path, total=100, max_fraction=0.1)
    bad("a.mp4", "is empty (0 bytes)")
    bad("b.mp4", "no such file")
    bad("a.mp4", "is empty (0 bytes)")
    assert bad.count == 2
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"path": "a.mp4", "reason": "is empty (0 bytes)"},
        {"path": "b.mp4", "reason": "no such file"},
    ]
    assert len(warnings_logged) == 2
    assert "a.mp4: is empty (0 bytes)" in warnings_logged[0]


def test_a_resumed_run_knows_them(tmp_path, warnings_logged):
    path = tmp_path / "bad_videos.jsonl"
    BadVideos(path, total=100, max_fraction=0.1)("a.mp4", "no such file")
    resumed = BadVideos(path, total=100, max_fraction=0.1)
    assert resumed.count == 1
    resumed("a.mp4", "no such file")
    resumed("b.mp4", "no such file")
    assert resumed.count == 2
    assert len(path.read_text().splitlines()) == 2
    assert len(warnings_logged) == 2


def test_too_many_stop_the_run_with_the_list(tmp_path):
    bad = BadVideos(None, total=10, max_fraction=0.1)
    bad("a.mp4", "no such file")
    with pytest.raises(MgmaeError, match=r"2 of 10 videos .*max_bad_fraction=0\.1") as error:
        bad("b.mp4", "is empty (0 bytes)")
    assert "a.mp4: no such file" in str(error.value)
    assert "b.mp4: is empty (0 bytes)" in str(error.value)


def test_a_fraction_of_zero_bears_none_and_of_one_bears_all():
    with pytest.raises(MgmaeError):
        BadVideos(None, total=10, max_fraction=0)("a.mp4", "no such file")
    bad = BadVideos(None, total=1, max_fraction=1)
    bad("a.mp4", "no such file")
    assert bad.count == 1


def test_a_list_that_cannot_be_written_or_read_is_told(tmp_path, warnings_logged):
    path = tmp_path / "bad_videos.jsonl"
    bad = BadVideos(path, total=100, max_fraction=0.1)
    bad("a.mp4", "no such file")
    whole = path.read_bytes()

    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left")

    with pytest.MonkeyPatch.context() as disk:
        disk.setattr(Path, "write_bytes", full)
        with pytest.raises(FileError, match=r"bad_videos\.jsonl: cannot be written \(No space left\)"):
            bad("b.mp4", "no such file")
    assert path.read_bytes() == whole
    path.write_bytes(b"\xff")
    with pytest.raises(FileError, match=r"bad_videos\.jsonl: cannot be read"):
        BadVideos(path, total=100, max_fraction=0.1)


@pytest.mark.parametrize("line", ["{", "3", '{"path": "a.mp4"}'])
def test_a_damaged_list_names_the_line(tmp_path, line):
    path = tmp_path / "bad_videos.jsonl"
    path.write_text('{"path": "a.mp4", "reason": "no such file"}\n' + line + "\n")
    with pytest.raises(FileError, match=r"bad_videos\.jsonl: line 2: "):
        BadVideos(path, total=10, max_fraction=0.5)
