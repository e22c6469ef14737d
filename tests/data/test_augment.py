import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from mgmae_jax.data.augment import CropBox, crop_offsets, crop_resize, crop_sizes, multi_scale_crop_box
from tests.shared_data import shared


def test_sizes_and_places_agree_with_the_official_program():
    cases = json.loads(shared("golden/recipe_facts.json").read_text())["multi_scale_crop"]
    assert cases
    for case in cases:
        height, width = case["height"], case["width"]
        assert crop_sizes(height, width, size=case["target"]) == [(c["height"], c["width"]) for c in case["crops"]]
        for crop in case["crops"]:
            offsets = crop_offsets(height, width, crop["height"], crop["width"])
            assert [[x, y] for y, x in offsets] == crop["offsets_xy"]


def test_a_side_almost_as_long_as_the_result_is_made_equal():
    assert crop_sizes(226, 300)[0] == (224, 224)
    assert crop_sizes(222, 300)[0] == (222, 222)  # 224 does not fit.


@given(height=st.integers(1, 500), width=st.integers(1, 500), size=st.integers(1, 300), seed=st.integers(0, 99))
@example(height=1, width=1, size=224, seed=0)
@example(height=17, width=4000, size=224, seed=0)
def test_boxes_lie_inside_the_frame(height, width, size, seed):
    box = multi_scale_crop_box(height, width, rng=np.random.default_rng(seed), size=size)
    assert min(box.height, box.width) >= 1
    assert min(box.y, box.x) >= 0
    assert box.y + box.height <= height
    assert box.x + box.width <= width


def test_all_sizes_and_places_are_drawn():
    rng = np.random.default_rng(0)
    boxes = {multi_scale_crop_box(240, 320, rng=rng) for _ in range(5000)}
    sizes = crop_sizes(240, 320)
    assert boxes == {CropBox(y, x, h, w) for h, w in sizes for y, x in crop_offsets(240, 320, h, w)}


@pytest.mark.parametrize(
    ("box", "size", "difference"),
    # Shrinking noise without averaging would differ by 30.
    [(CropBox(0, 0, 240, 240), 96, 10), (CropBox(10, 20, 158, 180), 224, 0.5), (CropBox(3, 5, 64, 64), 64, 0)],
)
def test_resizing_is_near_pillows_bilinear(box, size, difference):
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    crop = image[box.y : box.y + box.height, box.x : box.x + box.width]
    expected = np.asarray(Image.fromarray(crop).resize((size, size), Image.BILINEAR))
    result = crop_resize(image[None], box, size)
    assert result.shape == (1, size, size, 3)
    assert result.dtype == np.uint8
    assert np.abs(result[0].astype(float) - expected).mean() <= difference


def test_every_frame_is_cut_alike():
    frames = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), np.uint8)
    box = CropBox(4, 6, 12, 10)
    result = crop_resize(frames, box, 8)
    for i in range(3):
        np.testing.assert_array_equal(result[i], crop_resize(frames[i : i + 1], box, 8)[0])
    assert crop_resize(np.zeros((2, 1, 1, 3), np.uint8), CropBox(0, 0, 1, 1), 16).shape == (2, 16, 16, 3)
