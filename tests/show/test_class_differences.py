import numpy as np
import pytest
from PIL import Image

from mgmae_jax.errors import FileError
from mgmae_jax.show.class_differences import draw_class_differences

BLUE, RED = (43, 92, 138), (214, 69, 35)


def bars(path, values):
    """How many pixels are blue and red."""
    classes = [(f"class {i}", 10, value) for i, value in enumerate(values)]
    draw_class_differences(classes, ("A", "B"), "title", path)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return [int((pixels == colour).all(axis=-1).sum()) for colour in (BLUE, RED)]


def test_bars_are_as_long_as_differences(tmp_path):
    blue, red = bars(tmp_path / "new" / "d.png", [30.0, -10.0])
    assert blue / red == pytest.approx(3, rel=0.03)


@pytest.mark.parametrize(("values", "colours"), [([3.0, 1.0], (True, False)), ([-2.0], (False, True)), ([], (0, 0))])
def test_one_side_alone_or_none_is_drawn(tmp_path, values, colours):
    assert tuple(count > 0 for count in bars(tmp_path / "d.png", values)) == tuple(map(bool, colours))


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"d\.jpg: is drawn as \.png, \.svg or \.pdf"):
        bars(tmp_path / "d.jpg", [1.0])
