from pathlib import Path

import numpy as np
import pytest

from mgmae_jax.data.decode import open_video
from mgmae_jax.data.flow_places import flow_path, video_facts
from mgmae_jax.data.stored_flow import cell_grid, read_flow
from mgmae_jax.datasets import motion_shapes
from mgmae_jax.errors import FileError

SIZE, FRAMES = (48, 64), 8


def prepare(cache: Path, *, flow: bool, split: str = "train", **options) -> list[Path]:
    index = motion_shapes.prepare(cache, videos=3, seed=1, split=split, size=SIZE, frames=FRAMES, flow=flow, **options)
    return sorted(index.parent.rglob("*.mp4"), key=lambda path: path.name)


def test_without_flow_there_is_none(tmp_path: Path):
    assert not any(flow_path(path).exists() for path in prepare(tmp_path, flow=False))


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_flow_is_the_true_one(tmp_path: Path, split: str):
    for index, path in enumerate(prepare(tmp_path, flow=True, split=split)):
        with open_video(path) as video:
            stored = read_flow(flow_path(path), path, video_facts(video, path))
        assert stored.grid == cell_grid(12, 16)
        for row, backward in enumerate((False, True)):
            true = motion_shapes.true_flow(2 + (split == "test"), index, size=SIZE, frames=FRAMES, backward=backward)
            cells = true.reshape(7, 12, 4, 16, 4, 2).mean((2, 4))
            np.testing.assert_allclose(stored.steps[:, row] * 4, cells, atol=np.ptp(cells, (1, 2)).max() / 500)
            assert np.abs(cells).max() > 1


def test_flow_is_added_to_videos_that_are_there(tmp_path: Path):
    videos = prepare(tmp_path, flow=False)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in videos}
    assert prepare(tmp_path, flow=True) == videos
    assert all(flow_path(path).exists() for path in videos)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in videos} == before


def test_what_a_stopped_call_left_out_is_made(tmp_path: Path):
    videos = prepare(tmp_path, flow=True)
    content = [flow_path(path).read_bytes() for path in videos]
    flow_path(videos[0]).unlink()
    videos[1].unlink()
    told = []
    prepare(tmp_path, flow=True, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert [flow_path(path).read_bytes() for path in videos] == content
    assert all(path.exists() for path in videos)


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if ".flow." in path.name:
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(FileError, match=r"000000\.mp4\.flow\.\w+: cannot be written \(No space left on device\)"):
        prepare(tmp_path, flow=True)
    assert not list(tmp_path.rglob("*.partial"))
