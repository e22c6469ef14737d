import av
import numpy as np
import pytest
from PIL import Image

from mgmae_jax.errors import FileError
from mgmae_jax.show.panels import ACCENT, masked_frames
from mgmae_jax.show.video_out import motion_animation, write_animation, write_png
from tests.show.clip_example import BASE, PATCH, TUBELET, example


def plain_images(height: int = 33, width: int = 47) -> list[np.ndarray]:
    return [np.full((height, width, 3), value, np.uint8) for value in (30, 120, 220)]


def test_png_keeps_every_pixel(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    write_png(tmp_path / "new" / "picture.png", image)
    with Image.open(tmp_path / "new" / "picture.png") as read:
        np.testing.assert_array_equal(np.asarray(read), image)


def test_gif_reads_back(tmp_path):
    path = tmp_path / "new" / "film.gif"
    write_animation(path, plain_images(), fps=10)
    with Image.open(path) as film:
        assert film.n_frames == 3
        assert film.info["loop"] == 0
        for t, image in enumerate(plain_images()):
            film.seek(t)
            assert film.info["duration"] == 100
            np.testing.assert_allclose(np.asarray(film.convert("RGB")), image, atol=2)


@pytest.mark.parametrize("size", [(33, 47), (32, 48)])
def test_mp4_reads_back(tmp_path, size):
    path = tmp_path / "film.mp4"
    write_animation(path, plain_images(*size), fps=12.5)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 12.5
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 3
    for frame, image in zip(frames, plain_images(32 + size[0] % 2 * 2, 48), strict=True):
        np.testing.assert_allclose(frame.astype(int), image, atol=5)


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(FileError, match=r"film\.avi.*\.gif or \.mp4"):
        write_animation(tmp_path / "film.avi", plain_images(), fps=10)
    with pytest.raises(FileError, match=r"picture\.jpg.*\.png"):
        write_png(tmp_path / "picture.jpg", plain_images()[0])
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"file/picture\.png: cannot be written.*folder"):
        write_png(tmp_path / "file" / "picture.png", plain_images()[0])
    (tmp_path / "film.gif").mkdir()
    with pytest.raises(FileError, match=r"film\.gif: cannot be written"):
        write_animation(tmp_path / "film.gif", plain_images(), fps=10)


def test_animation_panels_follow_the_frames():
    clip = example()
    images = motion_animation(clip, cell=48)
    masked = masked_frames(clip.frames, clip.visible, patch=PATCH, tubelet=TUBELET)
    assert len(images) == 8
    top, step = 16 + 40, 48 + 8
    for t, image in enumerate(images):
        assert image.shape == images[0].shape
        for panel, expected in {0: clip.frames, 3: masked, 5: clip.reconstruction}.items():
            left = 16 + panel * step
            np.testing.assert_array_equal(image[top : top + 32, left : left + 48], expected[t])
        assert (image == ACCENT).all(axis=-1).any() == (t == BASE)


def test_animation_without_reconstruction_is_narrower():
    full = motion_animation(example(), cell=48)[0]
    without = motion_animation(example()._replace(reconstruction=None), cell=48)[0]
    assert full.shape[1] - without.shape[1] == 48 + 8
