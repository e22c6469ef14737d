"""How fast clips are read: decoding, cropping and the whole input pipeline, beside OpenCV's and decord's readers."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np

from mgmae_jax.bench.report import markdown_table
from mgmae_jax.data.augment import crop_resize, multi_scale_crop_box
from mgmae_jax.data.batches import BatchSpec, random_stream
from mgmae_jax.data.cores import usable_cores
from mgmae_jax.data.decode import open_video
from mgmae_jax.data.frame_cache import FrameCache
from mgmae_jax.data.frames import ClipSpec, pretrain_indices
from mgmae_jax.data.pretrain_clips import FlowSpec, pretrain_batches
from mgmae_jax.data.sources import VideoList
from mgmae_jax.errors import VideoError

Indices = Callable[[int], np.ndarray]
"""Draws the frames of a clip, given how many frames its video has."""

NOTES = """\
clips/s: by the clock. Per core: clips by the processor time that reading them took; for the pipeline with workers, by
the clock and worker. Cropping is the pre-training recipe's, to the clip's size, and every row but the first ends with
it. OpenCV seeks to the first frame and grabs up to the last, which gives wrong frames for some files."""


@dataclasses.dataclass(frozen=True)
class Rate:
    """How fast one way of reading is.

    Args:
      name: the row's name.
      clips: how many were read.
      seconds: how long it took, by the clock.
      core_seconds: how much of the processors it took; of the pipeline with workers, how much these were given.
      unreadable: how many more could not be read.
    """

    name: str
    clips: int
    seconds: float
    core_seconds: float
    unreadable: int

    def numbers(self) -> dict[str, Any]:
        """The row as JSON values."""
        return {
            **dataclasses.asdict(self),
            "clips_per_second": self.clips / self.seconds,
            "clips_per_core_second": self.clips / self.core_seconds,
        }


def read_rates(videos: VideoList, clip: ClipSpec, seed: int, seconds: float) -> Iterator[Rate]:
    """Measures reading in this process, one thread; every way reads the same frames of the same videos.

    Args:
      videos: what to read.
      clip: the clips.
      seed: draws the frames and the crops.
      seconds: how long each way is measured.
    """
    cv2.setNumThreads(0)

    def decode(place: int) -> np.ndarray:
        with open_video(videos.item(place % len(videos))) as video:
            return video.decode(_indices(clip, seed, place)(video.frames))

    def whole(place: int) -> np.ndarray:
        return _crop(decode(place), clip, seed, place)

    def by(read: Callable[[str, Indices], np.ndarray], place: int) -> np.ndarray:
        return _crop(read(videos.paths[place % len(videos)], _indices(clip, seed, place)), clip, seed, place)

    ways: dict[str, Callable[[int], np.ndarray]] = {"decode": decode, "decode and crop": whole}
    if videos.opener is None:
        ways["OpenCV, and crop"] = functools.partial(by, opencv_frames)
        if importlib.util.find_spec("decord"):
            ways["decord, and crop"] = functools.partial(by, decord_frames)
    for name, way in ways.items():
        for place in range(min(len(videos), 8)):  # so that files and timelines are cached for all ways alike
            _tried(way, place)
        yield _rate(name, way, seconds)


def pipeline_rate(
    videos: VideoList,
    clip: ClipSpec,
    seed: int,
    seconds: float,
    workers: int,
    batch_size: int,
    flow: FlowSpec | None = None,
    cache: FrameCache | None = None,
) -> Rate:
    """Measures batches of the whole input pipeline, as training gets them; starting the workers does not count.

    Args:
      videos: what to read.
      clip: the clips.
      seed: see `data.batches.BatchSpec`.
      seconds: how long to measure.
      workers: reading processes; 0 reads in threads of this one.
      batch_size: videos of a batch.
      flow: the flow that comes with the clips, or None.
      cache: where decoded frames are kept, or None.
    """
    unreadable: list[str] = []
    spec = BatchSpec(batch_size, 1, seed, workers)
    with_flow = "" if flow is None else f", flow {flow.source}"
    with pretrain_batches(
        videos, clip, spec, start_step=0, flow=flow, on_bad=lambda path, _: unreadable.append(path), cache=cache
    ) as batches:
        for _ in range(max(2, 4 * workers // batch_size + 1)):  # what was read ahead while the workers started
            next(batches)
        start, core_start, count = time.perf_counter(), time.process_time(), 0
        while (taken := time.perf_counter() - start) < seconds or not count:
            next(batches)
            count += batch_size
        # Without workers several threads of this process read; workers have a core each, which this process is not.
        core_taken = taken * workers if workers else time.process_time() - core_start
    return Rate(f"pipeline, workers={workers}{with_flow}", count, taken, core_taken, len(unreadable))


def opencv_frames(path: str, indices: Indices) -> np.ndarray:
    """Reads a clip with OpenCV: seeks to its first frame, and grabs up to its last.

    Args:
      path: the file.
      indices: draws the frames.

    Returns:
      uint8 [T, H, W, 3], RGB.

    Raises:
      VideoError: a frame cannot be read.
    """
    capture = cv2.VideoCapture(path)
    try:
        wanted = indices(max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 1)).tolist()
        capture.set(cv2.CAP_PROP_POS_FRAMES, wanted[0])
        found: dict[int, np.ndarray] = {}
        for index in range(wanted[0], wanted[-1] + 1):
            good = capture.grab()
            if index in wanted:
                good, image = capture.retrieve() if good else (False, None)
                if not good or image is None:
                    raise VideoError(path, f"OpenCV does not read frame {index}")
                found[index] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()
    return np.stack([found[index] for index in wanted])


def decord_frames(path: str, indices: Indices) -> np.ndarray:
    """Reads a clip with decord, as VideoMAE's program does, one thread; see `opencv_frames`."""
    import decord  # type: ignore[import-not-found]  # an optional peer, which has no types

    try:
        reader = decord.VideoReader(path, num_threads=1, ctx=decord.cpu(0))
        frames: np.ndarray = reader.get_batch(indices(len(reader)).tolist()).asnumpy()
    except decord.DECORDError as error:
        raise VideoError(path, f"decord does not read it ({error})") from error
    return frames


def rate_table(rates: list[Rate]) -> str:
    """The rows as a Markdown table."""
    head = ("", "clips/s", "clips/s per core", "ms per clip and core", "unreadable")
    return markdown_table([head, *map(_cells, rates)])


def cores_for(rate: Rate, clips: int, step_seconds: float) -> float:
    """How many cores read the clips of a step in the time of a step, at that rate."""
    return clips / step_seconds / (rate.clips / rate.core_seconds)


def _cells(rate: Rate) -> tuple[str, ...]:
    per_core = rate.clips / rate.core_seconds
    return (
        rate.name, f"{rate.clips / rate.seconds:.1f}", f"{per_core:.1f}", f"{1000 / per_core:.2f}", f"{rate.unreadable}"
    )  # fmt: skip


def _indices(clip: ClipSpec, seed: int, place: int) -> Indices:
    rng = random_stream(seed, "time", place)
    return lambda frames: pretrain_indices(frames, clip_frames=clip.frames, stride=clip.stride, rng=rng)


def _crop(frames: np.ndarray, clip: ClipSpec, seed: int, place: int) -> np.ndarray:
    rng = random_stream(seed, "crop", place)
    return crop_resize(frames, multi_scale_crop_box(*frames.shape[1:3], rng=rng, size=clip.size), clip.size)


def _tried(way: Callable[[int], np.ndarray], place: int) -> bool:
    try:
        way(place)
    except VideoError:
        return False
    return True


def _rate(name: str, way: Callable[[int], np.ndarray], seconds: float) -> Rate:
    clips = unreadable = 0
    start, core_start = time.perf_counter(), time.process_time()
    for place in itertools.count():
        if _tried(way, place):
            clips += 1
        else:
            unreadable += 1
        taken, core_taken = time.perf_counter() - start, time.process_time() - core_start
        if taken >= seconds and (clips or unreadable >= 64):
            return Rate(name, clips, taken, core_taken, unreadable)
    raise AssertionError("unreachable")


def default_workers() -> list[int]:
    """Numbers of workers to measure: none, one, and as many as this process has cores."""
    return sorted({0, 1, usable_cores()})
