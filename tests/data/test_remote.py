import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mgmae_jax.data.decode import Item, decode_frames, open_video
from mgmae_jax.data.encode import encode_mp4
from mgmae_jax.data.remote import PACKAGES, is_remote, join_listed, open_list, open_video_file
from mgmae_jax.errors import FileError, VideoError

REGISTRY = sys.modules["fsspec.registry"]._registry  # fsspec.registry itself is a view of it


class Bucket(MemoryFileSystem):
    """A bucket in memory, in the place of Google's."""

    protocol = ("gs", "gcs")
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("gs://").strip("/")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """gs:// is a bucket in memory."""
    monkeypatch.setitem(REGISTRY, "gs", Bucket)
    files = Bucket()
    yield files
    files.store.clear()


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the packages that read buckets is installed."""
    for package in PACKAGES.values():
        monkeypatch.setitem(sys.modules, package, None)
    for scheme in PACKAGES:
        monkeypatch.delitem(REGISTRY, scheme, raising=False)


def test_what_has_a_scheme_is_remote():
    assert is_remote("gs://b/a.mp4")
    assert is_remote("http://b/a.mp4")
    assert not is_remote("/b/a.mp4")
    assert not is_remote("b.mp4")


@pytest.mark.parametrize(
    ("listed", "video", "path"),
    [
        ("gs://b/lists/train.csv", "a/1.mp4", "gs://b/lists/a/1.mp4"),
        ("gs://b/train.csv", "1.mp4", "gs://b/1.mp4"),
        ("gs://b/train.csv", "s3://c/1.mp4", "s3://c/1.mp4"),
        ("/lists/train.csv", "gs://b/1.mp4", "gs://b/1.mp4"),
        ("/lists/train.csv", "1.mp4", "/lists/1.mp4"),
        ("/lists/train.csv", "/videos/1.mp4", "/videos/1.mp4"),
        ("train.csv", "1.mp4", "1.mp4"),
    ],
)
def test_a_video_is_where_its_list_says(listed: str, video: str, path: str):
    assert join_listed(listed, video) == path


def test_a_list_that_went_through_path_is_still_remote():
    assert is_remote(Path("gs://b/train.csv"))
    assert join_listed(Path("gs://b/train.csv"), "1.mp4") == "gs://b/1.mp4"
    assert join_listed(Path("gs://b/train.csv"), "s3:/c/1.mp4") == "s3://c/1.mp4"


@pytest.mark.parametrize(
    ("video", "reason"),
    [
        ("/videos/1.mp4", "names a path of one machine: give paths relative to the list, or whole URLs"),
        ("http://h/1.mp4", "http:// cannot be read: give a local path, or one of gs://, s3://, az://, hf://"),
    ],
)
def test_what_a_list_in_a_bucket_cannot_name_is_told(video: str, reason: str):
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}"):
        join_listed("gs://b/train.csv", video)


@pytest.mark.parametrize("path", ["gs://b/train.csv", "GS://b/train.csv", "gs:/b/train.csv", Path("gs://b/train.csv")])
def test_a_list_is_read_from_a_bucket(bucket: Bucket, path: str | Path):
    bucket.pipe_file("/b/train.csv", b"a.mp4,1\n")
    with open_list(path) as file:
        assert file.readline() == b"a.mp4,1\n"


def test_the_frames_of_a_video_in_a_bucket_are_those_of_the_file(bucket: Bucket, tmp_path: Path):
    frames = np.random.default_rng(0).integers(0, 256, (12, 32, 48, 3), np.uint8)
    (tmp_path / "a.mp4").write_bytes(encode_mp4(frames, 12))
    bucket.pipe_file("/b/a.mp4", (tmp_path / "a.mp4").read_bytes())
    opener = pickle.loads(pickle.dumps(open_video_file))  # as it travels to the processes that decode
    for name in ("gs://b/a.mp4", str(tmp_path / "a.mp4")):
        with open_video(Item(name, opener)) as video:
            np.testing.assert_array_equal(video.decode([2, 7]), decode_frames(tmp_path / "a.mp4", [2, 7]))


def test_a_missing_file_is_told(bucket: Bucket):
    with pytest.raises(FileError, match=r"^gs://b/train.csv: cannot be opened \(no such file\)$"):
        open_list("gs://b/train.csv")
    with (
        pytest.raises(VideoError, match=r"^gs://b/a.mp4: .*no such file"),
        open_video(Item("gs://b/a.mp4", open_video_file)),
    ):
        pass


def test_what_a_package_raises_becomes_one_line(bucket: Bucket, monkeypatch: pytest.MonkeyPatch):
    def refuse(self: Bucket, path: str, mode: str) -> None:
        raise ValueError("Anonymous caller\nhas no access")

    monkeypatch.setattr(Bucket, "open", refuse)
    with pytest.raises(FileError, match=r"^gs://b/train.csv: cannot be opened \(Anonymous caller\)$"):
        open_list("gs://b/train.csv")


@pytest.mark.parametrize(("scheme", "package"), PACKAGES.items())
def test_a_package_that_is_not_installed_is_named(no_packages: None, scheme: str, package: str):
    for give in (open_list, open_video_file):
        with pytest.raises(FileError) as told:
            give(f"{scheme}://b/a")
        start = f"{scheme}://b/a: {scheme}:// is read by the package {package} ("
        assert str(told.value).startswith(start)
        assert str(told.value).endswith(f"): pip install {package}, or mount the bucket and give its local path")


def test_a_missing_package_does_not_pass_for_a_bad_video(no_packages: None):
    with pytest.raises(FileError, match="pip install gcsfs") as told, open_video(Item("gs://b/a", open_video_file)):
        pass
    assert not isinstance(told.value, VideoError)


@pytest.mark.parametrize("path", ["http://host/a.csv", "ftp://host/a.csv", "memory://a.csv", "file:///a.csv"])
def test_other_schemes_are_refused(path: str):
    scheme = path.partition(":")[0]
    want = f"{scheme}:// cannot be read: give a local path, or one of gs://, s3://, az://, hf://"
    with pytest.raises(FileError) as told:
        open_list(path)
    assert str(told.value) == f"{path}: {want}"
