"""Bad videos, full disks and diverging losses, in whole runs."""

import json
from pathlib import Path

import av
import jax
import numpy as np
import pytest

from mgmae_jax.flow.raft import init_params
from mgmae_jax.interop.flow_weights import save_flow_weights
from tests.data.conftest import write_video
from tests.integration.runs import STEPS, Launcher, command, losses

pytestmark = pytest.mark.slow
BAD = {
    "cut.mp4": "cannot be read as a video",
    "empty.mp4": "is empty (0 bytes)",
    "text.mp4": "cannot be read as a video",
    "sound.mp4": "has no video stream (only audio)",
}


@pytest.fixture(scope="module")
def mixed_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve ordinary videos, five odd ones, and those of BAD: 21."""
    root = tmp_path_factory.mktemp("mixed")
    for i in range(12):
        write_video(root / f"{i:02}.mp4", 16 + i)
    write_video(root / "one_frame.mp4", 1)
    for height, width in ((1, 1), (17, 4000)):
        write_video(root / f"{height}x{width}.mkv", 3, height=height, width=width, codec="ffv1", pix_fmt="bgr0")
    write_video(root / "varying_rate.mp4", 20, times=[i * i for i in range(20)])
    write_video(root / "rotated.mp4", 20, rotation=90)
    whole = (root / "00.mp4").read_bytes()
    (root / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "empty.mp4").touch()
    (root / "text.mp4").write_text("this is no video\n" * 100)
    write_sound(root / "sound.mp4")
    return root


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def listed(workdir: Path) -> dict[str, str]:
    lines = [json.loads(line) for line in (workdir / "bad_videos.jsonl").read_text().splitlines()]
    assert len({line["path"] for line in lines}) == len(lines)
    return {Path(line["path"]).name: line["reason"] for line in lines}


def test_bad_videos_are_replaced_and_listed_and_odd_ones_are_used(
    launcher: Launcher, mixed_videos: Path, tmp_path: Path
):
    # 12 steps and 3 of warm-up, as for twelve videos: the program is in the cache.
    same = {"train__epochs": 4.6, "optim__warmup_epochs": 1.2}
    errors = launcher.run(command(tmp_path, data__path=mixed_videos, data__max_bad_fraction=0.2, **same))
    assert np.isfinite(losses(tmp_path)).all()
    found = listed(tmp_path)
    assert found.keys() == BAD.keys()
    assert all(found[name].startswith(reason) for name, reason in BAD.items())
    assert all(errors.count(f"{name}: ") == 1 for name in BAD)


def test_too_many_bad_videos_stop_the_run_with_their_names(launcher: Launcher, mixed_videos: Path, tmp_path: Path):
    same = {"train__epochs": 4.6, "optim__warmup_epochs": 1.2}
    errors = launcher.run(command(tmp_path, data__path=mixed_videos, data__max_bad_fraction=0.1, **same), status=1)
    assert "Traceback" not in errors
    assert "3 of 21 videos cannot be read, more than config.data.max_bad_fraction=0.1" in errors
    assert all(f"{name}: {reason}" in errors for name, reason in listed(tmp_path).items())


def test_a_full_disk_is_told_with_the_folder_and_the_run_goes_on_once_there_is_room(
    launcher: Launcher, twelve_videos: Path, tmp_path: Path
):
    # In a shell: a function between fork and exec would run in a copy of this process, whose JAX has threads.
    no_large_files = ["bash", "-c", 'ulimit -S -f 2048; exec "$@"', "bash"]
    arguments = command(tmp_path, data__path=twelve_videos)
    errors = launcher.run(arguments, status=1, prefix=no_large_files)
    assert "Traceback" not in errors
    assert f"mgmae pretrain: {tmp_path / 'checkpoints'}: the checkpoint of step 3 could not be saved" in errors
    launcher.run(arguments)
    assert len(losses(tmp_path)) == STEPS


def test_a_run_that_diverges_stops_with_the_remedy(launcher: Launcher, twelve_videos: Path, tmp_path: Path):
    arguments = command(tmp_path, data__path=twelve_videos, optim__lr=1e30, train__max_bad_steps=3)
    errors = launcher.run(arguments, status=1)
    assert "Traceback" not in errors
    assert "3 steps in a row had a loss or gradient that is not finite" in errors
    assert "Lower optim.lr" in errors


def test_other_flow_weights_do_not_go_on_with_a_run(launcher: Launcher, twelve_videos: Path, tmp_path: Path):
    shapes = jax.eval_shape(init_params, jax.random.key(0))
    for seed in range(2):
        rng = np.random.default_rng(seed)
        params = jax.tree.map(lambda leaf, rng=rng: rng.normal(size=leaf.shape, scale=0.02).astype(np.float32), shapes)
        save_flow_weights(tmp_path / f"{seed}.safetensors", params)
    raft = {"flow__source": "raft", "flow__size": 64, "flow__iters": 1, "train__epochs": 2, "optim__warmup_epochs": 0}

    def with_weights(seed: int) -> list[str]:
        weights = tmp_path / f"{seed}.safetensors"
        return command(tmp_path / "run", data__path=twelve_videos, flow__weights=weights, **raft)

    launcher.run(with_weights(0))
    errors = launcher.run(with_weights(1), status=1)
    assert "Traceback" not in errors
    assert "holds a run with flow weights" in errors
    assert "give what the run began with, another --workdir, or --allow-change flow_weights" in errors
    (tmp_path / "0.safetensors").rename(tmp_path / "1.safetensors")  # the same weights by another name will do
    assert "finished at step 3" in launcher.run(with_weights(1))
