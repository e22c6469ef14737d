import cv2
import numpy as np
import pytest

from mgmae_jax.data.flow_files import FlowPair, find_pairs, read_flow, read_image
from mgmae_jax.errors import FileError

FLOW = np.random.default_rng(0).normal(0, 5, (6, 9, 2)).astype(np.float32)


def write_flo(path, flow=FLOW):
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, _ = flow.shape
    path.write_bytes(b"PIEH" + np.array([width, height], "<i4").tobytes() + flow.astype("<f4").tobytes())


def write_image(path, value=0, shape=(6, 9, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full(shape, value, np.uint8))


def test_flo_is_read_back_and_unknown_flow_is_marked(tmp_path):
    flow = FLOW.copy()
    flow[2, 3] = 1e9
    flow[4, 5, 1] = np.nan
    write_flo(tmp_path / "a.flo", flow)
    read, valid = read_flow(tmp_path / "a.flo")
    assert not valid[2, 3]
    assert not valid[4, 5]
    assert valid.sum() == 6 * 9 - 2
    np.testing.assert_array_equal(read[valid], flow[valid])
    assert (read[~valid] == 0).all()


def test_kitti_png_holds_64ths_of_a_pixel(tmp_path):
    known = np.arange(54).reshape(6, 9) % 3 > 0
    stored = np.zeros((6, 9, 3), np.uint16)
    stored[..., 2], stored[..., 1], stored[..., 0] = *(np.round(FLOW * 64) + 2**15).transpose(2, 0, 1), known
    cv2.imwrite(str(tmp_path / "a.png"), stored)
    read, valid = read_flow(tmp_path / "a.png")
    np.testing.assert_array_equal(valid, known)
    np.testing.assert_array_equal(read[known], np.round(FLOW * 64)[known] / 64)


def test_images_are_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "red.png"), np.full((4, 5, 3), (0, 0, 200), np.uint8))
    assert read_image(tmp_path / "red.png")[0, 0].tolist() == [200, 0, 0]


def test_every_layout_is_found(tmp_path):
    for name in ("img0.ppm", "img1.ppm"):
        write_image(tmp_path / "mine" / "some_pair" / name)
    write_flo(tmp_path / "mine" / "some_pair" / "gt.flo")
    for name in ("7_img1.ppm", "7_img2.ppm", "8_img1.ppm", "8_img2.ppm"):
        write_image(tmp_path / "chairs" / name)
    write_flo(tmp_path / "chairs" / "7_flow.flo")
    write_flo(tmp_path / "chairs" / "8_flow.flo")
    for number in (9, 10, 11):
        write_image(tmp_path / "sintel" / "clean" / "alley" / f"frame_{number:04}.png")
    write_flo(tmp_path / "sintel" / "flow" / "alley" / "frame_0009.flo")
    for name in ("000003_10.png", "000003_11.png"):
        write_image(tmp_path / "kitti" / "image_2" / name)
    (tmp_path / "kitti" / "flow_occ").mkdir()
    cv2.imwrite(str(tmp_path / "kitti" / "flow_occ" / "000003_10.png"), np.full((6, 9, 3), 2**15, np.uint16))
    pairs = {pair.name: pair for pair in find_pairs(tmp_path)}
    assert set(pairs) == {"some_pair", "7", "8", "alley_0009", "000003_10"}
    assert pairs["alley_0009"].image2.name == "frame_0010.png"
    assert pairs["7"].image1.name == "7_img1.ppm"
    assert pairs["000003_10"].image2.name == "000003_11.png"
    for pair in pairs.values():
        assert pair.read()["image2"].shape == (6, 9, 3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"PIEH", "does not start with PIEH"),
        (b"JUNKJUNKJUNK", "does not start with PIEH"),
        (b"PIEH" + np.array([9, 6], "<i4").tobytes() + b"\0" * 100, "9x6, but it has 112 bytes"),
        (b"PIEH" + np.array([-9, 6], "<i4").tobytes(), "-9x6"),
    ],
)
def test_damaged_flo(tmp_path, data: bytes, reason: str):
    (tmp_path / "bad.flo").write_bytes(data)
    with pytest.raises(FileError, match=reason) as error:
        read_flow(tmp_path / "bad.flo")
    assert "bad.flo" in str(error.value)


def test_an_ordinary_png_is_no_kitti_flow(tmp_path):
    write_image(tmp_path / "a.png")
    with pytest.raises(FileError, match="16 bits"):
        read_flow(tmp_path / "a.png")


def test_frames_of_another_size(tmp_path):
    write_image(tmp_path / "1.png")
    write_image(tmp_path / "2.png", shape=(6, 10, 3))
    write_flo(tmp_path / "f.flo")
    with pytest.raises(FileError, match=r"2.png: is 10x6, but its flow .*f.flo is 9x6"):
        FlowPair("a", tmp_path / "1.png", tmp_path / "2.png", tmp_path / "f.flo").read()


def test_flow_that_is_known_nowhere(tmp_path):
    for name in ("1.png", "2.png"):
        write_image(tmp_path / name)
    write_flo(tmp_path / "f.flo", np.full((6, 9, 2), 1e9, np.float32))
    with pytest.raises(FileError, match="has no pixel with known flow"):
        find_pairs(tmp_path)[0].read()


def test_no_folder_no_flow_no_frames(tmp_path):
    with pytest.raises(FileError, match="no such folder"):
        find_pairs(tmp_path / "none")
    with pytest.raises(FileError, match=r"holds no \.flo file"):
        find_pairs(tmp_path)
    write_flo(tmp_path / "lonely.flo")
    with pytest.raises(FileError, match=r"lonely.flo: its two frames were not found"):
        find_pairs(tmp_path)
