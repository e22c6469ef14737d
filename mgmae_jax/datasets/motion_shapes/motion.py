"""The classes of the motion-shapes videos: each is a rule that moves the actor, its partner or the camera.

Every rule is the identity at time 0, the pivot frame, where all classes therefore show the same picture. Time is a
fraction of the video; lengths are pixels, and a rule scales them by `Cast.unit` so that it looks alike at every size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Cast:
    """What a rule may know about a scene; drawn without knowing the label.

    Args:
      unit: the shorter side of the frame in pixels.
      centre: the frame's centre, `[2]`, x then y, as all positions here.
      actor: position of the main sprite at the pivot frame.
      partner: position of the second sprite at the pivot frame.
      occluder: position of the sprite in front of all others.
      reach: distance of actor and partner, centre to centre, at which they touch.
      speed: factor near 1 on every motion.
      side: +1 or -1, for motions that may go either way within their class.
    """

    unit: float
    centre: np.ndarray
    actor: np.ndarray
    partner: np.ndarray
    occluder: np.ndarray
    reach: float
    speed: float
    side: float


# From role ("actor", "partner" or "camera") to [T, 3, 3] matrices on frame positions; an omitted role stands still.
Moves = dict[str, np.ndarray]
Rule = Callable[[Cast, np.ndarray], Moves]


def translate(offset: np.ndarray) -> np.ndarray:
    """Matrices `[..., 3, 3]` that shift by offsets `[..., 2]`."""
    matrix = np.broadcast_to(np.eye(3), (*offset.shape[:-1], 3, 3)).copy()
    matrix[..., :2, 2] = offset
    return matrix


def turn_and_scale(centre: np.ndarray, angle: np.ndarray | float, scale: np.ndarray | float) -> np.ndarray:
    """Matrices `[..., 3, 3]` that turn by radians (positive is clockwise on the screen) and scale about a centre."""
    angle, scale = np.broadcast_arrays(angle, scale)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    matrix = np.zeros((*angle.shape, 3, 3))
    matrix[..., 0, 0], matrix[..., 0, 1] = cos, -sin
    matrix[..., 1, 0], matrix[..., 1, 1] = sin, cos
    matrix[..., :2, 2] = centre - np.einsum("...ij,j->...i", matrix[..., :2, :2], centre)
    matrix[..., 2, 2] = 1.0
    return matrix


def _slide(direction: tuple[float, float], travel: float) -> Rule:
    def rule(cast: Cast, time: np.ndarray) -> Moves:
        return {"actor": translate(time[:, None] * np.asarray(direction) * travel * cast.speed * cast.unit)}

    return rule


def _turn(radians: float) -> Rule:
    return lambda cast, time: {"actor": turn_and_scale(cast.actor, radians * cast.speed * time, 1.0)}


def _resize(log_scale: float) -> Rule:
    return lambda cast, time: {"actor": turn_and_scale(cast.actor, 0.0, np.exp(log_scale * cast.speed * time))}


def _falling(cast: Cast, time: np.ndarray) -> Moves:
    since_start = time - time[0]
    fallen = 0.65 * cast.speed * (since_start**2 - time[0] ** 2)
    return {"actor": translate(np.stack([np.zeros_like(time), fallen], axis=-1) * cast.unit)}


def _bouncing(cast: Cast, time: np.ndarray) -> Moves:
    phase = (2.2 * cast.speed * time + 0.5) % 1.0  # 0 and 1 are the floor, 1/2 the top of a parabola
    lowered = 0.24 * (2.0 * phase - 1.0) ** 2
    return {"actor": translate(np.stack([np.zeros_like(time), lowered], axis=-1) * cast.unit)}


def _swinging(cast: Cast, time: np.ndarray) -> Moves:
    nail = cast.actor - np.asarray([0.0, 0.32 * cast.unit])
    return {"actor": turn_and_scale(nail, 0.6 * cast.side * np.sin(2 * np.pi * 1.2 * cast.speed * time), 1.0)}


def _shaking(cast: Cast, time: np.ndarray) -> Moves:
    shift = 0.04 * cast.side * np.sin(2 * np.pi * 6.0 * cast.speed * time)
    return {"actor": translate(np.stack([shift, np.zeros_like(time)], axis=-1) * cast.unit)}


def _passing_behind(cast: Cast, time: np.ndarray) -> Moves:
    towards = cast.occluder - cast.actor
    towards = towards / np.linalg.norm(towards)
    return {"actor": translate(1.15 * cast.speed * cast.side * time[:, None] * towards * cast.unit)}


def _colliding(cast: Cast, time: np.ndarray) -> Moves:
    rate = 0.9 * cast.speed * cast.unit
    gap = _distance(cast) - cast.reach
    return _along_line(cast, gap - np.abs(rate * time - gap))  # zero at the pivot frame, the gap at contact


def _moving_apart(cast: Cast, time: np.ndarray) -> Moves:
    rate = 0.9 * cast.speed * cast.unit
    overlapping = 0.4 * cast.reach
    return _along_line(cast, np.minimum(-rate * time, _distance(cast) - overlapping))  # stand together until they part


def _along_line(cast: Cast, closing: np.ndarray) -> Moves:
    """Actor and partner share equally in closing the distance between them by so many pixels."""
    step = 0.5 * closing[:, None] * (cast.partner - cast.actor) / _distance(cast)
    return {"actor": translate(step), "partner": translate(-step)}


def _distance(cast: Cast) -> float:
    return float(np.linalg.norm(cast.partner - cast.actor))


def _camera_panning(cast: Cast, time: np.ndarray) -> Moves:
    shift = 0.7 * cast.speed * cast.side * time
    return {"camera": translate(np.stack([shift, np.zeros_like(time)], axis=-1) * cast.unit)}


def _camera_zooming(cast: Cast, time: np.ndarray) -> Moves:
    return {"camera": turn_and_scale(cast.centre, 0.0, np.exp(1.0 * cast.speed * cast.side * time))}


RULES: dict[str, Rule] = {
    "pushed_left": _slide((-1.0, 0.0), 0.65),
    "pushed_right": _slide((1.0, 0.0), 0.65),
    "lifted": _slide((0.0, -1.0), 0.65),
    "falling": _falling,
    "turning_clockwise": _turn(2 * np.pi),
    "turning_counterclockwise": _turn(-2 * np.pi),
    "approaching": _resize(1.1),
    "receding": _resize(-1.1),
    "passing_behind": _passing_behind,
    "colliding": _colliding,
    "moving_apart": _moving_apart,
    "bouncing": _bouncing,
    "swinging": _swinging,
    "shaking": _shaking,
    "camera_panning": _camera_panning,
    "camera_zooming": _camera_zooming,
}
CLASSES: tuple[str, ...] = tuple(RULES)
