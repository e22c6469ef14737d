import os

import numpy as np
import pytest
from PIL import Image

from mgmae_jax.errors import FileError
from mgmae_jax.show.confusion import draw_confusion, shorten


def drawn(path, matrix):
    draw_confusion(np.asarray(matrix), [f"class {i}" for i in range(len(matrix))], "title", path)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), int)


def test_what_is_taken_for_what_is_dark(tmp_path):
    right, wrong = drawn(tmp_path / "a.png", [[9, 0], [0, 9]]), drawn(tmp_path / "b.png", [[0, 9], [9, 0]])
    assert right.shape == wrong.shape
    rows, columns = np.nonzero((right != wrong).any(axis=-1))
    middle = (columns.min() + columns.max()) // 2, (rows.min() + rows.max()) // 2
    top_left = np.s_[rows.min() : middle[1], columns.min() : middle[0]]
    assert right[top_left].mean() < 100 < 200 < wrong[top_left].mean()


def test_a_class_without_videos_is_grey_and_not_wrong(tmp_path):
    grey = (np.abs(drawn(tmp_path / "a.png", [[9, 0], [0, 0]]) - 217) <= 1).all(axis=-1)
    none = (np.abs(drawn(tmp_path / "b.png", [[9, 0], [0, 9]]) - 217) <= 1).all(axis=-1)
    assert grey.sum() > none.sum() + 5000


@pytest.mark.parametrize("classes", [1, 16, 60, 201])
def test_any_number_of_classes_is_drawn(tmp_path, classes):
    assert drawn(tmp_path / "new" / "m.png", np.eye(classes, dtype=int)).shape[0] < 4000


def test_names_that_are_not_utf8_are_drawn_with_question_marks(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    assert shorten(name) == "caf?"
    draw_confusion(np.eye(2, dtype=int), [name, "b"], f"{name}: top-1", tmp_path / "m.png")


@pytest.mark.parametrize("name", ["a$b_$", r"$\foo$", "$5 to $10", r"\$_$"])
def test_dollars_in_names_are_no_formula(tmp_path, name):
    draw_confusion(np.eye(2, dtype=int), [name, "b"], f"{name}: top-1", tmp_path / "m.png")
    assert shorten("$" * 41) == r"\$" * 39 + "…"


def test_thousands_of_classes_fit_a_picture(tmp_path):
    assert max(drawn(tmp_path / "m.png", np.eye(4000, dtype=int)).shape) < 6000


def test_names_are_cut():
    assert shorten("short") == "short"
    assert shorten("a long name", 6) == "a lon…"


def test_a_folder_in_its_place_is_told(tmp_path):
    (tmp_path / "m.png").mkdir()
    with pytest.raises(FileError, match="cannot be written"):
        drawn(tmp_path / "m.png", [[1]])
