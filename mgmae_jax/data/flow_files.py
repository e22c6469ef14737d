"""Optical flow files: Middlebury's .flo and KITTI's 16-bit .png, and the frame pairs that they belong to."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from mgmae_jax.errors import FileError

UNKNOWN = 1e8
"""Components above this mark unknown flow in .flo files."""
_MAX_SIDE = 20_000
_IMAGES = (".png", ".ppm", ".jpg", ".jpeg")


@dataclasses.dataclass(frozen=True)
class FlowPair:
    """The files of a pair of frames with true flow.

    Args:
      name: the pair's name in tables.
      image1: the frame that the flow starts in.
      image2: the frame that it ends in.
      flow: the flow file, .flo or KITTI's .png.
    """

    name: str
    image1: Path
    image2: Path
    flow: Path

    def read(self) -> dict[str, np.ndarray]:
        """Returns "image1" and "image2", uint8 [H, W, 3] RGB, "flow", float32 [H, W, 2], and "valid", bool [H, W].

        Raises:
          FileError: a file is damaged, or their sizes differ.
        """
        flow, valid = read_flow(self.flow)
        images = [read_image(self.image1), read_image(self.image2)]
        for path, image in zip((self.image1, self.image2), images, strict=True):
            if image.shape[:2] != flow.shape[:2]:
                want = "x".join(map(str, flow.shape[1::-1]))
                raise FileError(path, f"is {image.shape[1]}x{image.shape[0]}, but its flow {self.flow} is {want}")
        if not valid.any():
            raise FileError(self.flow, "has no pixel with known flow")
        return {"image1": images[0], "image2": images[1], "flow": flow, "valid": valid}


def find_pairs(folder: str | Path) -> list[FlowPair]:
    """Finds the frame pairs with true flow in a folder and its sub-folders.

    Known layouts: a folder with two images and one .flo; FlyingChairs (00001_flow.flo beside 00001_img1.ppm and
    00001_img2.ppm); Sintel (flow/SCENE/frame_0001.flo with clean/SCENE/frame_0001.png and the next frame); KITTI
    (flow_occ/000000_10.png with image_2/000000_10.png and image_2/000000_11.png).

    Returns:
      The pairs, sorted by name; at least one.

    Raises:
      FileError: there is no such folder, it has no flow, or a flow file has no frames.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileError(folder, "no such folder: give one of frame pairs with .flo or KITTI's .png flow")
    flows = sorted(path for path in folder.rglob("*.flo") if path.is_file())
    flows += sorted(path for path in folder.rglob("flow_occ/*_10.png") if path.is_file())
    if not flows:
        raise FileError(folder, "holds no .flo file and no KITTI flow (flow_occ/*_10.png)")
    return [_pair(folder, flow) for flow in flows]


def _pair(folder: Path, flow: Path) -> FlowPair:
    beside = sorted(path for path in flow.parent.iterdir() if path.suffix.lower() in _IMAGES)
    candidates: list[tuple[str, list[Path]]] = []
    if flow.suffix == ".png":
        frames = flow.parent.parent / "image_2"
        candidates.append((flow.stem, [frames / flow.name, frames / flow.name.replace("_10.png", "_11.png")]))
    elif flow.stem.endswith("_flow"):
        stem = flow.stem.removesuffix("_flow")
        candidates.append((stem, [path for path in beside if path.stem in (f"{stem}_img1", f"{stem}_img2")]))
    elif len(beside) == 2:
        candidates.append((flow.parent.name, beside))
    elif flow.parent.parent.name == "flow" and flow.stem.removeprefix("frame_").isdigit():
        number = flow.stem.removeprefix("frame_")
        frames = flow.parents[2] / "clean" / flow.parent.name
        names = [f"frame_{int(number) + step:0{len(number)}}.png" for step in (0, 1)]
        candidates.append((f"{flow.parent.name}_{number}", [frames / name for name in names]))
    for name, images in candidates:
        if len(images) == 2 and all(image.is_file() for image in images):
            return FlowPair(name, images[0], images[1], flow)
    raise FileError(
        flow,
        "its two frames were not found: put each pair in a folder of its own, or lay them out as FlyingChairs, Sintel "
        "or KITTI does",
    )


def read_image(path: str | Path) -> np.ndarray:
    """Reads an image as uint8 [H, W, 3], RGB.

    Raises:
      FileError: it cannot be read.
    """
    image = cv2.imdecode(np.frombuffer(_bytes(path), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise FileError(path, "is not an image that can be read")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_flow(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads optical flow.

    Args:
      path: Middlebury's .flo, or KITTI's .png (16 bits: 64 x flow + 32768, and a channel that marks where it is known).

    Returns:
      Flow, float32 [H, W, 2], x then y in pixels, zero where unknown; and where it is known, bool [H, W].

    Raises:
      FileError: it is damaged or of another format.
    """
    path = Path(path)
    return _read_kitti(path) if path.suffix.lower() == ".png" else _read_flo(path)


def _read_flo(path: Path) -> tuple[np.ndarray, np.ndarray]:
    data = _bytes(path)
    if data[:4] != b"PIEH" or len(data) < 12:
        raise FileError(path, "is not a .flo file: it does not start with PIEH")
    width, height = (int(side) for side in np.frombuffer(data, "<i4", 2, offset=4))
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE) or len(data) != 12 + 8 * width * height:
        raise FileError(path, f"is damaged: its header says {width}x{height}, but it has {len(data)} bytes")
    flow = np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2).astype(np.float32)
    valid = np.all(np.abs(flow) <= UNKNOWN, axis=-1)  # false for NaN too
    return np.where(valid[..., None], flow, np.float32(0)), valid


def _read_kitti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = cv2.imdecode(np.frombuffer(_bytes(path), np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint16 or image.ndim != 3 or image.shape[2] != 3:
        raise FileError(path, "is not KITTI flow: a .png with three channels of 16 bits")
    valid = image[..., 0] > 0  # OpenCV's order is blue, green, red
    flow = (image[..., :0:-1].astype(np.float32) - 2**15) / 64
    return np.where(valid[..., None], flow, np.float32(0)), valid


def _bytes(path: str | Path) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise FileError(path, f"cannot be read ({error.strerror or error})") from error
    if not data:
        raise FileError(path, "is empty")
    return data
