"""Batches of labelled, augmented clips for fine-tuning. Workers are spawned: they import this module again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np

from mgmae_jax.data.augment import crop_resize, erase_box, random_resized_crop_box
from mgmae_jax.data.batches import BatchSpec, TrainBatches, random_stream, train_batches
from mgmae_jax.data.decode import Readable, open_video
from mgmae_jax.data.frames import ClipSpec, dense_train_indices, uniform_train_indices
from mgmae_jax.data.rand_augment import RandAugment
from mgmae_jax.data.sources import LabelledVideos
from mgmae_jax.errors import ConfigError

Sampling = Literal["uniform", "dense"]


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to a clip before the network sees it, in this order and in the same way to all its frames.

    Attributes:
      rand: RandAugment, as timm writes it; "" for none.
      min_area: least share of the frame that the random resized crop keeps, above 0; at 1 only the crop's shape is
        random.
      flip: whether half of the clips are mirrored left to right.
      erase: probability that a box is filled with noise.

    Raises:
      ConfigError: a field has a value that cannot work.
    """

    rand: str = "rand-m7-n4-mstd0.5-inc1"
    min_area: float = 0.08
    flip: bool = False
    erase: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.min_area <= 1:
            raise ConfigError("augment.min_area", self.min_area, "a share of the frame above 0, up to 1")
        if not 0 <= self.erase <= 1:
            raise ConfigError("augment.erase", self.erase, "a probability from 0 to 1")
        if self.rand:
            RandAugment.parse(self.rand)

    def __call__(self, frames: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
        """Augments frames uint8 [T, H, W, 3] to a clip uint8 [T, size, size, 3]."""
        if self.rand:
            frames = RandAugment.parse(self.rand)(frames, rng)
        box = random_resized_crop_box(*frames.shape[1:3], rng=rng, min_area=self.min_area)
        # Without averaging, like the clips of an evaluation.
        clip = crop_resize(frames, box, size, average=False)
        if self.flip and rng.random() < 0.5:
            clip = clip[:, :, ::-1]
        return erase_box(clip, rng=rng) if rng.random() < self.erase else clip


def labelled_batches(
    videos: LabelledVideos,
    clip: ClipSpec,
    sampling: Sampling,
    augmentation: Augmentation,
    spec: BatchSpec,
    *,
    start_step: int,
    on_bad: Callable[[str, str], None],
) -> TrainBatches:
    """Reads this process's fine-tuning batches from `start_step` on, endlessly; see `train_batches`.

    Args:
      videos: at least one.
      clip: the shape of the clips; uniform sampling ignores its stride.
      sampling: "uniform" over the whole video, or "dense".
      augmentation: how every view is augmented.
      spec: how the batches are composed; its views show the same frames, each with its own augmentation (Hoffer et
        al., 2020).
      start_step: the step of the first batch.
      on_bad: called with path and reason when a bad video is first met. An exception that it raises ends the iteration.

    Returns:
      An iterator over dicts; close it, or use it as a context manager. With the n clips of this process,
      video by video and view by view: "clip", uint8 [n, T, S, S, 3], RGB; "label", int32 [n].

    Raises:
      ConfigError: the batch cannot be divided over the devices, or another number is out of range.
    """
    if sampling not in ("uniform", "dense"):
        raise ConfigError("clip.sampling", sampling, "one of uniform, dense")
    return train_batches(
        videos,
        _LabelledClips(clip, sampling, augmentation, spec.views, spec.seed),
        spec,
        start_step=start_step,
        on_bad=on_bad,
    )


@dataclasses.dataclass(frozen=True)
class _LabelledClips:
    """Makes examples; see `batches.Read`."""

    clip: ClipSpec
    sampling: Sampling
    augmentation: Augmentation
    views: int
    seed: int

    def __call__(self, item: Readable, label: int | None, position: int) -> dict[str, np.ndarray]:
        """Returns "clip" [views, T, S, S, 3] and "label" [views]."""
        clip, rng = self.clip, random_stream(self.seed, "time", position)
        with open_video(item) as video:
            if self.sampling == "uniform":
                indices = uniform_train_indices(video.frames, clip_frames=clip.frames, rng=rng)
            else:
                indices = dense_train_indices(video.frames, clip_frames=clip.frames, stride=clip.stride, rng=rng)
            frames = video.decode(indices)
        views = [
            self.augmentation(frames, clip.size, random_stream(self.seed, "augment", position, view))
            for view in range(self.views)
        ]
        return {"clip": np.stack(views), "label": np.full(self.views, label, np.int32)}
