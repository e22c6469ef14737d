import numpy as np
import pytest

from mgmae_jax.show.contact_sheet import Thumbnail, contact_sheet


def flat(red: int, height: int = 30, width: int = 40) -> np.ndarray:
    return np.full((height, width, 3), (red, 0, 0), np.uint8)


def test_frames_are_laid_out_in_their_order():
    sheet = contact_sheet([Thumbnail(flat(10 * i), ("a.mp4", "jump")) for i in range(11)], "eleven", 40)
    reds = [red for red in range(0, 110, 10) if (sheet == (red, 0, 0)).all(-1).sum() > 30 * 40 // 2]
    assert reds == list(range(0, 110, 10))
    places = [np.argwhere((sheet == (10 * i, 0, 0)).all(-1)).mean(0) for i in range(1, 11)]
    assert places == sorted(places, key=lambda place: (place[0] > sheet.shape[0] / 2, place[1]))


@pytest.mark.parametrize(("height", "width"), [(60, 20), (20, 90), (1, 1)])
def test_a_frame_of_any_shape_fits_its_cell(height, width):
    sheet = contact_sheet([Thumbnail(flat(200, height, width), ("x" * 500,))], "one", 64)
    inside = np.argwhere((sheet == (200, 0, 0)).all(-1))
    extent = np.ptp(inside, axis=0) + 1
    assert extent[0] <= 48
    assert extent[1] <= 64
    assert extent[1] / extent[0] == pytest.approx(width / height, rel=0.1)
