import itertools

import numpy as np
import pytest

from mgmae_jax.data.batches import BatchSpec
from mgmae_jax.data.finetune_clips import Augmentation, labelled_batches
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.sources import read_source
from mgmae_jax.errors import ConfigError

CLIP = ClipSpec(frames=4, stride=2, size=32)
PLAIN = Augmentation(rand="", min_area=1.0, flip=False, erase=0.0)


def no_bad(path, reason):
    raise AssertionError(f"{path}: {reason}")


def read(videos, count, *, sampling="uniform", augmentation=Augmentation(), **changes):  # noqa: B008
    options = {
        "batch_size": 4,
        "views": 2,
        "seed": 0,
        "workers": 0,
        "start_step": 0,
    }
    options |= changes
    first = options.pop("start_step")
    spec = BatchSpec(**options)
    with labelled_batches(videos, CLIP, sampling, augmentation, spec, start_step=first, on_bad=no_bad) as batches:
        return list(itertools.islice(batches, count))


@pytest.fixture(scope="module")
def videos(video_folder):
    return read_source(video_folder)


@pytest.fixture(scope="module")
def batches(videos):
    return read(videos, 3)


def test_shapes_and_types(batches):
    for batch in batches:
        assert {name: (array.shape, array.dtype.name) for name, array in batch.items()} == {
            "clip": ((8, 4, 32, 32, 3), "uint8"),
            "label": ((8,), "int32"),
        }


def test_every_label_belongs_to_its_video(tmp_path, make_video):
    for level, label in ((40, "dark"), (120, "grey"), (210, "bright")):
        frames = np.full((9, 32, 32, 3), level, np.uint8)
        make_video(f"{label}/{level}.mkv", frames=frames, codec="ffv1", pix_fmt="bgr0")
    videos = read_source(tmp_path)
    for batch in read(videos, 3, augmentation=PLAIN):
        levels = batch["clip"][:, 0, 0, 0, 0]
        assert [videos.class_names[label] for label in batch["label"]] == [
            {40: "dark", 120: "grey", 210: "bright"}[level] for level in levels.tolist()
        ]


def test_views_are_the_same_frames_augmented_each_in_its_own_way(videos):
    (augmented,), (plain,) = read(videos, 1), read(videos, 1, augmentation=PLAIN, views=1)
    views = augmented["clip"].reshape(4, 2, 4, 32, 32, 3)
    assert all(not np.array_equal(first, second) for first, second in views)
    np.testing.assert_array_equal(augmented["label"].reshape(4, 2), plain["label"][:, None].repeat(2, 1))


@pytest.mark.parametrize("changes", [{"workers": 2}, {"start_step": 1}])
def test_workers_and_resuming_change_nothing(videos, batches, changes):
    for batch, want in zip(read(videos, 2, **changes), batches[changes.get("start_step", 0) :], strict=False):
        for name in ("clip", "label"):
            np.testing.assert_array_equal(batch[name], want[name])


def test_flips_happen_where_they_are_wanted_alone(tmp_path, make_video):
    frames = np.zeros((9, 32, 32, 3), np.uint8)
    frames[:, :, :16] = 200  # the left half is bright
    make_video("a/a.mkv", frames=frames, codec="ffv1", pix_fmt="bgr0")
    videos = read_source(tmp_path)

    def left_is_bright(flip: bool) -> np.ndarray:
        augmentation = Augmentation(rand="", min_area=1.0, flip=flip, erase=0.0)
        (batch,) = read(videos, 1, augmentation=augmentation, batch_size=32, views=1)
        return batch["clip"][:, 0, 16, 2, 0] > 100

    assert left_is_bright(False).all()
    assert 8 < left_is_bright(True).sum() < 24


def test_sampling_is_checked_and_differs(videos):
    (uniform,), (dense,) = (read(videos, 1, sampling=name, augmentation=PLAIN) for name in ("uniform", "dense"))
    assert not np.array_equal(uniform["clip"], dense["clip"])
    with pytest.raises(ConfigError, match=r"config\.clip\.sampling='sparse': give one of uniform, dense"):
        read(videos, 1, sampling="sparse")


@pytest.mark.parametrize(
    ("field", "value"), [("min_area", 0.0), ("min_area", 1.5), ("erase", -0.1), ("erase", 2.0), ("rand", "rand")]
)
def test_wrong_augmentations_name_the_field(field, value):
    with pytest.raises(ConfigError, match=rf"config\.augment\.{field}={value!r}"):
        Augmentation(**{field: value})
