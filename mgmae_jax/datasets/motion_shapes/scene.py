"""Scenes of the motion-shapes videos: sampling, drawing, and their true flow.

A scene is a stack of flat layers, each with one affine matrix per frame; frames and flow both follow from the matrices,
so the flow is exact.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from mgmae_jax.datasets.motion_shapes import texture as look
from mgmae_jax.datasets.motion_shapes.motion import CLASSES, RULES, Cast, translate, turn_and_scale
from mgmae_jax.errors import MgmaeError


@dataclasses.dataclass(frozen=True)
class Scene:
    """A video before it is drawn.

    Args:
      size: height and width of the frames.
      background: uint8 `[N, N, 3]`, periodic.
      sprites: partner, actor and occluder, back to front; float32 `[S, S, 4]`, RGB 0..255 multiplied by alpha 0..1.
      transforms: float64 `[1 + sprites, T, 3, 3]` from layer positions to frame positions (x, y, 1), pixel centres;
        layer 0 is the background.
      label: index into `CLASSES`.
      pivot: the frame that looks the same whatever the label.
      fps: frames per second.
    """

    size: tuple[int, int]
    background: np.ndarray
    sprites: tuple[np.ndarray, ...]
    transforms: np.ndarray
    label: int
    pivot: int
    fps: int


def sample_scene(
    seed: int, index: int, *, size: tuple[int, int], frames: int, label: int | None = None, still: bool = False
) -> Scene:
    """The scene of a video, a pure function of its arguments.

    Appearance, layout, speed and camera drift are drawn before the label is looked at, so they carry no trace of it.

    Args:
      seed: the dataset's seed, 0 or more.
      index: the video's index, 0 or more.
      size: height and width in pixels, 32 or more.
      frames: T, 8 or more; the motion always fills the whole video.
      label: index into `CLASSES`; by default index modulo their number, which balances the classes.
      still: show the pivot frame all the time: the same appearance, and the flow is zero.

    Raises:
      MgmaeError: an argument is out of range.
    """
    if min(size) < 32 or frames < 8 or seed < 0 or index < 0:
        raise MgmaeError(
            f"motion shapes: seed={seed}, index={index}, size={tuple(size)}, frames={frames}: give a seed and index "
            "of at least 0, a height and width of at least 32, and at least 8 frames."
        )
    label = index % len(CLASSES) if label is None else label
    if not 0 <= label < len(CLASSES):
        raise MgmaeError(f"motion shapes: label={label}: give a number from 0 to {len(CLASSES) - 1}.")
    rng = np.random.default_rng([seed, index])
    unit = float(min(size))
    centre = (np.asarray(size[::-1], np.float64) - 1.0) / 2.0

    background_side = 2 * max(size)
    background = look.cloud_texture(rng, background_side, look.muted_colours(rng), 2.0 * unit)
    # The actor is near the centre, the others each in a diagonal quadrant: beside its ways left, right, up and down. It
    # leans away from them, so that they too are in view.
    quadrants = rng.permutation(np.asarray([[1, 1], [1, -1], [-1, 1], [-1, -1]]))
    actor = centre + unit * (rng.uniform(-0.03, 0.03, 2) - 0.04 * (quadrants[0] + quadrants[1]))
    occluder = actor + unit * (0.325 * quadrants[0] + rng.uniform(-0.015, 0.015, 2))
    partner = actor + unit * (0.35 * quadrants[1] + rng.uniform(-0.03, 0.03, 2))
    places = [partner, actor, occluder]  # back to front
    radii = [unit * rng.uniform(*span) for span in ((0.23, 0.28), (0.23, 0.28), (0.185, 0.22))]
    outlines = [str(rng.choice(options)) for options in (look.OUTLINES, look.OUTLINES, look.CHUNKY_OUTLINES)]
    dressed = [_sprite(rng, *each) for each in zip(outlines, radii, places, strict=True)]
    sprites, poses = zip(*dressed, strict=True)

    pivot = round(rng.uniform(0.4, 0.6) * (frames - 1))
    time = np.zeros(frames) if still else (np.arange(frames) - pivot) / (frames - 1)  # all rules rest at time 0
    cast = Cast(
        unit=unit,
        centre=centre,
        actor=actor,
        partner=partner,
        occluder=occluder,
        reach=0.75 * (radii[0] + radii[1]),
        speed=rng.uniform(0.85, 1.15),
        side=float(rng.choice([-1.0, 1.0])),
    )
    drift = _camera_drift(rng, time, centre, unit)
    fps = int(rng.integers(12, 25))

    moves = RULES[CLASSES[label]](cast, time)
    camera = drift @ moves.get("camera", np.eye(3))
    worlds = [camera, camera @ moves.get("partner", np.eye(3)), camera @ moves.get("actor", np.eye(3)), camera]
    poses = [translate(centre - (background_side - 1) / 2), *poses]
    return Scene(
        size=(size[0], size[1]),
        background=np.round(background).astype(np.uint8),
        sprites=sprites,
        transforms=np.stack([world @ pose for world, pose in zip(worlds, poses, strict=True)]),
        label=label,
        pivot=pivot,
        fps=fps,
    )


def draw(scene: Scene) -> np.ndarray:
    """The frames of a scene, uint8 `[T, H, W, 3]` RGB."""
    height, width = scene.size
    frames = np.empty((scene.transforms.shape[1], height, width, 3), np.uint8)
    for t, frame in enumerate(frames):
        background = cv2.warpAffine(
            scene.background, scene.transforms[0, t, :2], (width, height), borderMode=cv2.BORDER_WRAP
        )
        canvas = background.transpose(2, 0, 1).astype(np.float32, order="C")  # mixing is fast along long rows
        for sprite, transform in zip(scene.sprites, scene.transforms[1:, t], strict=True):
            warped, rows, columns = _warp_sprite(sprite, transform, scene.size)
            planes = np.ascontiguousarray(warped.transpose(2, 0, 1))
            canvas[:, rows, columns] *= 1.0 - planes[3]
            canvas[:, rows, columns] += planes[:3]
        frame[:] = np.rint(canvas).transpose(1, 2, 0)  # in range, as all layers are and mixing keeps it
    return frames


def top_layers(scene: Scene) -> np.ndarray:
    """Which layer covers each pixel: uint8 `[T, H, W]`, 0 for the background, then the sprites back to front."""
    top = np.zeros((scene.transforms.shape[1], *scene.size), np.uint8)
    for t, layers in enumerate(top):
        for layer, sprite in enumerate(scene.sprites, start=1):
            warped, rows, columns = _warp_sprite(sprite, scene.transforms[layer, t], scene.size)
            layers[rows, columns][warped[..., 3] >= 0.5] = layer
    return top


def scene_flow(scene: Scene, *, backward: bool = False) -> np.ndarray:
    """The exact motion of what each pixel shows, also where it moves out of view.

    Args:
      scene: from `sample_scene`.
      backward: False gives the flow from each frame to the next, True from each frame but the first to the one before.

    Returns:
      float32 `[T-1, H, W, 2]`, x then y in pixels; entry i starts in frame i, or in frame i + 1 if backward.
    """
    start, end = scene.transforms[:, :-1], scene.transforms[:, 1:]
    top = top_layers(scene)
    if backward:
        start, end, top = end, start, top[1:]
    else:
        top = top[:-1]
    step = (end @ np.linalg.inv(start) - np.eye(3))[..., :2, :].astype(np.float32)  # [L, T-1, 2, 3]
    step = step[top, np.arange(len(top))[:, None, None]]
    y, x = np.mgrid[: scene.size[0], : scene.size[1]].astype(np.float32)
    return step[..., 0] * x[..., None] + step[..., 1] * y[..., None] + step[..., 2]


def _sprite(rng: np.random.Generator, outline: str, radius: float, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A premultiplied sprite and the matrix that puts it at its place, at a random angle."""
    oversize = 1.25  # the actor may grow to twice its size
    side = 2 * int(np.ceil(radius * oversize)) + 6
    alpha = look.outline_mask(outline, radius * oversize, side)[..., None]
    colour = look.gradient_texture(rng, side, look.vivid_colours(rng), radius * oversize)
    middle = np.full(2, (side - 1) / 2)
    pose = translate(place - middle) @ turn_and_scale(middle, rng.uniform(-np.pi, np.pi), 1.0 / oversize)
    return np.concatenate([colour * alpha, alpha], axis=-1), pose


def _camera_drift(rng: np.random.Generator, time: np.ndarray, centre: np.ndarray, unit: float) -> np.ndarray:
    """A hand-held camera, `[T, 3, 3]`: slow shift, turn and zoom, all of them zero at time 0."""
    shift = rng.uniform(-0.1, 0.1, 2) * time[:, None] + 0.015 * rng.choice([-1.0, 1.0], 2) * np.sin(
        2 * np.pi * rng.uniform(0.5, 1.5, 2) * time[:, None]
    )
    turn, zoom = rng.uniform(-0.06, 0.06, 2)
    return translate(shift * unit) @ turn_and_scale(centre, turn * time, np.exp(zoom * time))


def _warp_sprite(sprite: np.ndarray, transform: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, slice, slice]:
    """The sprite resampled into its bounding box in the frame, and the box's rows and columns (may be empty)."""
    last = sprite.shape[0] - 1.0
    corners = transform[:2] @ np.asarray([[0.0, last, 0.0, last], [0.0, 0.0, last, last], [1.0, 1.0, 1.0, 1.0]])
    limit = np.asarray(size[::-1])
    low = np.clip(np.floor(corners.min(axis=1)).astype(int), 0, limit)
    high = np.clip(np.ceil(corners.max(axis=1)).astype(int) + 1, low, limit)
    rows, columns = slice(low[1], high[1]), slice(low[0], high[0])
    if (high == low).any():
        return np.zeros((high[1] - low[1], high[0] - low[0], 4), np.float32), rows, columns
    shifted = transform[:2].copy()
    shifted[:, 2] -= low
    return cv2.warpAffine(sprite, shifted, tuple(int(n) for n in high - low)), rows, columns
