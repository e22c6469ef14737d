import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from mgmae_jax.data.augment import (
    CropBox,
    crop_offsets,
    crop_resize,
    crop_sizes,
    erase_box,
    multi_scale_crop_box,
    random_resized_crop_box,
)
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


@given(height=st.integers(1, 500), width=st.integers(1, 500), min_area=st.floats(0.01, 1), seed=st.integers(0, 99))
@example(height=10, width=500, min_area=1.0, seed=0)
@example(height=500, width=10, min_area=1.0, seed=0)
def test_random_resized_crops_lie_inside_the_frame(height, width, min_area, seed):
    box = random_resized_crop_box(height, width, rng=np.random.default_rng(seed), min_area=min_area)
    assert min(box.height, box.width) >= 1
    assert min(box.y, box.x) >= 0
    assert box.y + box.height <= height
    assert box.x + box.width <= width


def test_random_resized_crops_have_the_recipes_areas_and_shapes():
    rng = np.random.default_rng(0)
    boxes = np.array([random_resized_crop_box(320, 320, rng=rng)[2:] for _ in range(4000)])
    area, aspect = boxes.prod(1) / 320**2, boxes[:, 1] / boxes[:, 0]
    assert 0.07 < area.min() < 0.1
    assert area.max() > 0.9
    assert 0.74 < aspect.min() < 0.77
    assert 1.3 < aspect.max() < 1.35
    assert np.mean(np.log(aspect)) == pytest.approx(0, abs=0.02)


def test_a_frame_too_narrow_for_every_draw_is_cropped_in_the_middle():
    box = random_resized_crop_box(60, 600, rng=np.random.default_rng(0), min_area=0.9)
    assert box == CropBox(0, 260, 60, 80)


def test_resizing_without_averaging_interpolates_between_the_nearest_pixels():
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    shrunk = crop_resize(image, CropBox(0, 0, 64, 64), 16, average=False)  # pixel centres fall between 1 and 2 of 4
    want = image.reshape(1, 16, 4, 16, 4, 3)[:, :, 1:3, :, 1:3].mean((2, 4))
    np.testing.assert_allclose(shrunk, want, atol=1)


def test_erasing_fills_one_box_of_all_frames_with_noise():
    grey = np.full((3, 60, 80, 3), 7, np.uint8)
    shares = []
    for seed in range(200):
        erased = erase_box(grey, rng=np.random.default_rng(seed))
        changed = (erased != 7).any(-1)
        rows, columns = np.flatnonzero(changed.any((0, 2))), np.flatnonzero(changed.any((0, 1)))
        inside = changed[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert inside.mean() > 0.95  # noise may be 7 by chance
        assert changed.sum() == inside.sum()
        shares.append(inside[0].size / 4800)
        assert not np.array_equal(erased[0], erased[1])
    assert 0.015 < min(shares) < 0.05
    assert 0.3 < max(shares) < 0.35
    assert (grey == 7).all()
