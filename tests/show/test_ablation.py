from pathlib import Path

import cv2
import numpy as np
import pytest

from mgmae_jax.errors import FileError
from mgmae_jax.show.ablation import RowFigure, draw_rows

TUBE, MOTION = RowFigure("tube", (30.0, 34.0), 32.0, 2.0), RowFigure("motion | guided $_$", (40.0,), 40.0, 0.0)
BLUE, RED = (0x8A, 0x5C, 0x2B), (0x23, 0x45, 0xD6)  # BGR


def pixels(path: Path, colour: tuple[int, int, int]) -> int:
    return int((cv2.imread(str(path)) == np.array(colour)).all(axis=-1).sum())


def grey_lines(path: Path) -> int:
    """How many lines of pixels are grey over much of their length: dashes, and the edge of the frame."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    return int((((image > 90) & (image < 210)).mean(axis=1) > 0.3).sum())


def test_the_baseline_has_a_colour_of_its_own(tmp_path: Path):
    panels = [("probe", (TUBE, MOTION)), ("error", (MOTION,))]
    for name, baseline in (("a.png", "tube"), ("b.png", "none")):
        draw_rows(panels, baseline, "", "Masks", tmp_path / name)
    assert pixels(tmp_path / "a.png", BLUE) > 20
    assert pixels(tmp_path / "a.png", RED) > 20
    assert pixels(tmp_path / "b.png", RED) == 0


def test_rows_that_are_numbers_are_a_curve_and_the_others_a_line_across(tmp_path: Path):
    numbers = [RowFigure(name, (value,), value, 1.0) for name, value in (("0.9", 50.0), ("0.5", 40.0))]
    draw_rows([("probe", [TUBE, *numbers])], "0.5", "mask ratio", "Ratios", tmp_path / "c.png")
    draw_rows([("probe", numbers)], "0.5", "mask ratio", "Ratios", tmp_path / "d.png")
    assert pixels(tmp_path / "c.png", BLUE) > 100
    assert grey_lines(tmp_path / "c.png") > grey_lines(tmp_path / "d.png")


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        draw_rows([("probe", (TUBE,))], "tube", "", "Masks", tmp_path / "file" / "a.png")
