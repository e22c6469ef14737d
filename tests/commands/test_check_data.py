import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mgmae_jax.cli import main
from mgmae_jax.commands import check_data
from mgmae_jax.data.check import Checked


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A list whose videos are never read."""
    (tmp_path / "list.csv").write_text("a.mp4,0\nb.mp4,0\nc.mp4,0\n")
    return tmp_path / "list.csv"


@pytest.mark.parametrize("in_the_way", ["out", "out/under"])
def test_a_folder_that_cannot_be_written_is_told_before_videos_are_read(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, in_the_way: str
):
    monkeypatch.setattr(check_data, "check_videos", lambda *_: pytest.fail("read"))
    (tmp_path / "out").write_text("a file")
    assert main(["check-data", str(videos), f"--out={tmp_path / in_the_way}"]) == 1
    assert f"{tmp_path / in_the_way}: cannot be written (" in capsys.readouterr().err


def test_a_read_only_folder_is_told(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(check_data, "check_videos", lambda *_: pytest.fail("read"))
    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    assert main(["check-data", str(videos), f"--out={tmp_path}/out"]) == 1
    assert f"{tmp_path}/out: cannot be written (Permission denied): give a writable folder" in capsys.readouterr().err


def test_an_interruption_keeps_what_was_found(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def two_of_them(*_: object) -> Iterator[Checked]:
        yield Checked("a.mp4", None, 8, 4, 4, 25.0, 100)
        yield Checked("b.mp4", "is empty")
        raise KeyboardInterrupt

    monkeypatch.setattr(check_data, "check_videos", two_of_them)
    out = tmp_path / "out"
    assert main(["check-data", str(videos), f"--out={out}"]) == 130
    assert "a.mp4" in (out / "videos.jsonl").read_text()
    assert "b.mp4" in (out / "broken.jsonl").read_text()
    told = capsys.readouterr().err
    assert f"wrote {out}: only the first 2 of 3 videos" in told
    assert told.endswith("\ninterrupted\n")
