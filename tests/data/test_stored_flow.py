import json
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from mgmae_jax.data.stored_flow import (
    VERSION,
    Grid,
    VideoFacts,
    cell_grid,
    corner_grid,
    file_digest,
    flow_bytes,
    grid_shape,
    has_flow,
    quantise,
    read_flow,
    read_quantised,
    to_cells,
    write_flow,
)
from mgmae_jax.errors import FileError, VideoError

FACTS = VideoFacts(6, 20, 30, "0123456789abcdef")
GRID = corner_grid(3, 4, 24, 32)
METHOD = "a method"


def ramp(frames: int = FACTS.frames) -> np.ndarray:
    """Flow of which every step has another range, exact in eight bits."""
    values = (np.arange(24) * 11 % 256).reshape(3, 4, 2)
    values[0, 0], values[2, 3] = 0, 255
    scale = np.arange(1, 2 * frames - 1).reshape(frames - 1, 2, 1, 1, 1) / 64
    return (values * scale - 1).astype(np.float32)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    write_flow(tmp_path / "a.mp4.flow.safetensors", ramp(), GRID, FACTS, METHOD)
    return tmp_path / "a.mp4.flow.safetensors"


def test_what_is_written_is_read(stored: Path):
    found = read_flow(stored, "a.mp4", FACTS)
    np.testing.assert_allclose(found.steps, ramp(), atol=1e-5)
    np.testing.assert_allclose(found.grid, GRID, rtol=1e-6)
    assert (found.first, grid_shape(stored, "a.mp4")) == (0, (3, 4))
    assert [path.name for path in stored.parent.iterdir()] == [stored.name]


def test_the_file_is_one_of_safetensors(stored: Path):
    with safe_open(stored, "np") as file:
        assert file.metadata() == {
            "format": "mgmae-jax flow", "version": VERSION, "video": FACTS.digest, "method": METHOD,
            "frames": "6", "height": "20", "width": "30",
        }  # fmt: skip
        shapes = {name: (file.get_tensor(name).dtype, file.get_tensor(name).shape) for name in file.keys()}  # noqa: SIM118
    assert shapes == {
        "values": (np.uint8, (5, 2, 3, 4, 2)),
        "range": (np.float32, (5, 2, 2, 2)),
        "grid": (np.float32, (2, 2)),
        "check": (np.uint32, (5,)),
    }


@pytest.mark.parametrize(("first", "last"), [(0, 5), (0, 1), (2, 4), (4, 5), (3, 3), (5, 5)])
def test_a_stretch_is_read_alone(stored: Path, first: int, last: int):
    part = read_flow(stored, "a.mp4", FACTS, first, last)
    np.testing.assert_allclose(part.steps, ramp()[first:last], atol=1e-5)
    assert part.first == first


def test_a_video_of_one_frame_has_no_steps(tmp_path: Path):
    facts = FACTS._replace(frames=1)
    write_flow(tmp_path / "flow", np.zeros((0, 2, 3, 4, 2), np.float32), GRID, facts, METHOD)
    assert read_flow(tmp_path / "flow", "a.mp4", facts).steps.shape == (0, 2, 3, 4, 2)


def test_flow_of_a_record_is_compared_by_its_frames():
    """The video of a record may be encoded again, at another size."""
    content = flow_bytes(ramp(), GRID, FACTS, METHOD)
    other = VideoFacts(6, 40, 60)
    np.testing.assert_allclose(read_flow(content, "a.mp4", other, 1, 3).steps, ramp()[1:3], atol=1e-5)
    with pytest.raises(FileError, match=r"the record of a\.mp4: is the flow of 6 frames of 30x20, but a\.mp4 has 7"):
        read_flow(content, "a.mp4", other._replace(frames=7))
    with pytest.raises(FileError, match=r"the record of a\.mp4: the flow of a\.mp4 cannot be read"):
        read_flow(content[:-1], "a.mp4", other)


def test_absent_flow_says_how_it_is_made(tmp_path: Path):
    with pytest.raises(FileError, match=r"a\.mp4\.flow: the flow of a\.mp4 is not there: `mgmae flow --config"):
        read_flow(tmp_path / "a.mp4.flow", "a.mp4", FACTS)
    assert not has_flow(tmp_path / "a.mp4.flow", "a.mp4", FACTS, METHOD)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (FACTS._replace(frames=7), "6 frames of 30x20, but a.mp4 has 7 of 30x20"),
        (FACTS._replace(height=30, width=20), "6 frames of 30x20, but a.mp4 has 6 of 20x30"),
        (FACTS._replace(digest="f" * 16), "a video whose file has the digest 0123456789abcdef, but that of a.mp4 is f"),
    ],
)
def test_flow_of_another_video_names_both(stored: Path, facts: VideoFacts, words: str):
    with pytest.raises(FileError, match=rf"a\.mp4\.flow\.\w+: is the flow of {re.escape(words)}") as error:
        read_flow(stored, "a.mp4", facts)
    assert not isinstance(error.value, VideoError)  # which would be passed over as a bad video
    assert not has_flow(stored, "a.mp4", facts, METHOD)
    assert has_flow(stored, "a.mp4", FACTS, METHOD)
    assert has_flow(stored, "a.mp4", FACTS._replace(digest=""), METHOD)
    assert not has_flow(stored, "a.mp4", FACTS, "another method")


def edited(path: Path, change) -> bytes:
    """The file with its head changed by `change`."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + content[8 + length :]


def more_steps(header: dict) -> None:
    header["values"]["shape"][0] = 9


HEADS = {
    "older": (lambda head: head["__metadata__"].update(version="1"), "it is of version 1, not 2"),
    "foreign": (lambda head: head["__metadata__"].update(format="mgmae-jax"), "it is not a file of flow"),
    "no metadata": (lambda head: head.pop("__metadata__"), "its head is damaged"),
    "no grid": (lambda head: head.pop("grid"), "its head is damaged"),
    "a list": (lambda head: head.update(values=[1]), "its head is damaged"),
    "type": (lambda head: head["values"].update(dtype="I8"), "values is not of type U8"),
    "shape": (more_steps, "values is shorter or longer than its shape"),
    "transposed": (lambda head: head["range"].update(shape=[2, 5, 2, 2]), "range has the shape"),
    "place": (lambda head: head["check"].update(data_offsets=[-4, 16]), "check is not of type U32"),
    "frames": (lambda head: head["__metadata__"].update(frames="8"), "it has 5 steps for 8 frames"),
    "frames, no number": (lambda head: head["__metadata__"].update(frames="x"), "invalid literal"),
}


@pytest.mark.parametrize("name", HEADS)
def test_files_of_something_else_are_refused(stored: Path, name: str):
    change, words = HEADS[name]
    stored.write_bytes(edited(stored, change))
    with pytest.raises(
        FileError, match=rf"a\.mp4\.flow\.\w+: the flow of a\.mp4 cannot be read \(damaged or foreign\? .*{words}"
    ):
        read_flow(stored, "a.mp4", FACTS)
    assert not has_flow(stored, "a.mp4", FACTS, METHOD)


def test_other_tensors_and_longer_files_are_refused(stored: Path):
    stored.write_bytes(stored.read_bytes() + b"\0")
    with pytest.raises(FileError, match="shorter or longer than its head says"):
        read_flow(stored, "a.mp4", FACTS)
    stored.write_bytes(safetensors.numpy.save({"weights": np.zeros(3)}))
    with pytest.raises(FileError, match="cannot be read"):
        read_flow(stored, "a.mp4", FACTS)


@settings(max_examples=200)
@given(data=st.data())
def test_any_damage_of_the_flow_is_an_error(data: st.DataObject):
    content = bytearray(flow_bytes(ramp(), GRID, FACTS, METHOD))
    head = 8 + int.from_bytes(content[:8], "little")
    if data.draw(st.booleans(), "cut off"):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(head, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FileError, match=r"the record of a\.mp4: "):
        read_flow(bytes(content), "a.mp4", FACTS)


@settings(max_examples=200)
@given(place=st.integers(0, 700), value=st.integers(0, 255))
def test_damage_of_the_head_is_an_error_or_another_name(place: int, value: int):
    content = bytearray(flow_bytes(ramp(), GRID, FACTS, METHOD))
    content[place % (8 + int.from_bytes(content[:8], "little"))] = value
    try:
        found = read_flow(bytes(content), "a.mp4", FACTS)
    except FileError:
        return
    np.testing.assert_allclose(found.steps, ramp(), atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_flow_that_is_not_finite_is_not_written(tmp_path: Path, value: float):
    with pytest.raises(FileError, match=r"a\.flow: was not written: its flow is infinite or not a number"):
        write_flow(tmp_path / "a.flow", np.full_like(ramp(), value), GRID, FACTS, METHOD)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(FileError, match=r"taken/a\.flow: cannot be written .*config\.flow\.path"):
        write_flow(tmp_path / "taken" / "a.flow", ramp(), GRID, FACTS, METHOD)


@settings(max_examples=100)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-6, 1e6), shift=st.floats(-1e3, 1e3))
def test_eight_bits_are_off_by_a_510th_of_the_range_once_and_for_all(seed: int, scale: float, shift: float):
    flow = (np.random.default_rng(seed).normal(size=(2, 3, 5, 2)) * scale + shift).astype(np.float32)
    values, span = quantise(flow)
    read = read_quantised(values, span)
    spread = np.ptp(flow, axis=(1, 2))[:, None, None]
    assert (np.abs(read - flow) <= spread / 509 + np.abs(flow) * 1e-6).all()
    if (spread > 1e-3 * np.abs(flow).max()).all():
        np.testing.assert_array_equal(quantise(read)[0], values)


def test_the_same_flow_everywhere_is_exact():
    flow = np.broadcast_to(np.float32([1.25, -7]), (1, 3, 4, 2))
    values, span = quantise(flow)
    assert not values.any()
    np.testing.assert_array_equal(read_quantised(values, span), flow)


def test_cells_average_their_pixels():
    flow = np.random.default_rng(0).normal(size=(3, 20, 32, 2)).astype(np.float32)
    means = flow.reshape(3, 5, 4, 8, 4, 2).mean((2, 4))
    np.testing.assert_allclose(to_cells(flow, 5, 8), means / 4, atol=1e-5)
    assert to_cells(flow, 30, 40).shape == (3, 30, 40, 2)


def test_where_the_points_of_grids_lie():
    cells = cell_grid(2, 4)
    assert [cells.start[0] + cells.span[0] * f for f in (0.25, 0.75)] == [0, 1]
    assert cells.span == (2, 4)
    corners = corner_grid(2, 3, 16, 24)
    positions = [corners.start[1] + corners.span[1] * f for f in (0.5 / 24, 0.5, 23.5 / 24)]
    np.testing.assert_allclose(positions, [0, 1, 2], atol=1e-12)
    assert isinstance(corners, Grid)


def test_a_digest_is_that_of_the_content(tmp_path: Path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"a" * 200_000)
    two.write_bytes(b"a" * 200_000)
    assert re.fullmatch("[0-9a-f]{16}", file_digest(one))
    assert file_digest(one) == file_digest(two)
    for changed in (b"a" * 200_001, b"b" + b"a" * 199_999, b"a" * 199_999 + b"b"):
        two.write_bytes(changed)
        assert file_digest(one) != file_digest(two)
