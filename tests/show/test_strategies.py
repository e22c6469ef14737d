import numpy as np

from mgmae_jax.show.panels import masked_frames
from mgmae_jax.show.strategies import ShownMask, strategies_strip
from tests.show.clip_example import PATCH, TUBELET, example

CELL = 48  # the width of the example: cells show its very pixels


def strip(**masks: ShownMask) -> np.ndarray:
    frames = example().frames
    return strategies_strip(
        frames, masks, patch=PATCH, tubelet=TUBELET, base=None, caption="a caption", cell=CELL, max_columns=8
    )


def first_cell(picture: np.ndarray, row: int) -> np.ndarray:
    """The first of eight columns in a row."""
    left, top = picture.shape[1] - 16 - 8 * (CELL + 4), 36 + 36 * row
    return picture[top : top + 32, left : left + CELL]


def test_each_strategy_has_a_row_of_its_masks():
    visible = example().visible
    one, two = ShownMask(visible, ~visible), ShownMask(~visible, visible)
    picture = strip(one=one, two=two)
    assert picture.shape[0] - strip(one=one).shape[0] == 32 + 4
    for row, mask in enumerate((one, two), start=1):
        masked = masked_frames(example().frames, mask.visible, patch=PATCH, tubelet=TUBELET)
        np.testing.assert_array_equal(first_cell(picture, row), masked[0])


def test_what_is_not_predicted_is_darker_than_what_is():
    visible = np.zeros((4, 4, 6), bool)
    target = np.zeros_like(visible)
    target[:, :, :3] = True
    row = first_cell(strip(half=ShownMask(visible, target)), 1).mean(-1)
    assert row[:, :24].min() > 180
    assert row[:, 24:].max() < 120
    assert first_cell(strip(half=ShownMask(visible, ~visible)), 1).min() > 180


def test_a_long_name_makes_room_for_itself():
    mask = ShownMask(example().visible, ~example().visible)
    assert strip(a_very_long_name_of_a_strategy=mask).shape[1] > strip(short=mask).shape[1]
