import types
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.sources import VideoList
from mgmae_jax.data.views import ViewSpec
from mgmae_jax.errors import FileError
from mgmae_jax.probe import features
from mgmae_jax.probe.features import VideoFeatures, extract, write_features
from mgmae_jax.runtime.mesh import make_mesh


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(features, "save_file", full)
    found = VideoFeatures(np.zeros((1, 1, 2), np.float32), VideoList(("a.mp4",)), np.arange(1), ())
    with pytest.raises(FileError, match=r"x\.safetensors: cannot be written \(.*No space left.*\): give a writable"):
        write_features(tmp_path / "x.safetensors", found, (1, 1, 1), {})
    assert list(tmp_path.iterdir()) == []


def test_no_process_returns_before_all_have_opened_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    events = []

    class Kept:
        done, missing = 1, {}

        def __init__(self, *_: object) -> None:
            pass

        def read(self) -> np.ndarray:
            events.append("opens")
            return np.zeros((1, 1, 2), np.float32)

    monkeypatch.setattr(features, "_Kept", Kept)
    monkeypatch.setattr(features, "barrier", lambda name: events.append(name.rpartition(" ")[2]))
    encoder = types.SimpleNamespace(
        about={"parameters": "1"},
        model=types.SimpleNamespace(dtype="float32", positions="sine"),
        shape=lambda what: (2,),
    )
    views = ViewSpec(ClipSpec(2, 1, 32), "dense", 1, 1)
    options = {"cache": tmp_path, "workers": 0, "clips_per_device": 1, "allow_missing": False}
    extract(encoder, VideoList(("a.mp4",)), views, "pooled", make_mesh(), **options)
    assert events == ["opened", "written", "opens", "read"]
