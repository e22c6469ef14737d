from pathlib import Path

import pytest

from mgmae_jax.commands.bench_flow import method_names
from mgmae_jax.commands.file_names import short_names
from mgmae_jax.errors import MgmaeError


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["videos/my 1.mp4", "videos/2.mp4"], ["my 1", "2"]),
        (["/v/a/1.mp4", "/v/b/1.mp4", "/v/b/2.mp4"], ["a-1", "b-1", "b-2"]),
        (["/v/1.mp4", "/v/1.avi"], ["1.mp4", "1.avi"]),
        (["/v/a/1.mp4", "/v/b/1.mp4", "/v/c/a-1.mp4"], ["a-1", "b-1", "c-a-1"]),
        (["/v/a 1.mp4", "/w/a-1.mp4"], ["v-a 1", "w-a-1"]),
        ([], []),
    ],
)
def test_files_are_called_by_as_much_as_tells_them_apart(files: list[str], names: list[str]):
    assert list(short_names(files, "VIDEOS").values()) == names


def test_a_file_that_is_given_twice_is_told():
    with pytest.raises(
        MgmaeError, match=r"^METHOD: a/b\.pth, .*/a/b\.pth: two of these cannot be told apart: give each"
    ):
        short_names(["a/b.pth", str(Path("a/b.pth").absolute())], "METHOD")


@pytest.mark.parametrize(
    ("methods", "names"),
    [
        (["dis", "x/best.safetensors", "dis,mask.warp=trajectory"], ["dis", "best", "dis-mask-warp-trajectory"]),
        (["runs/a/best.safetensors", "runs/b/best.safetensors", "bundled"], ["a-best", "b-best", "bundled"]),
        (["a/best.safetensors,flow.iters=4", "b/best.safetensors"], ["a-best-flow-iters-4", "b-best"]),
        (["bundled", "a/bundled.safetensors"], ["bundled", "bundled-safetensors"]),
    ],
)
def test_methods_are_told_apart(methods: list[str], names: list[str]):
    assert list(method_names(methods).values()) == names
