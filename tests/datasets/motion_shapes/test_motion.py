import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmae_jax.datasets.motion_shapes.motion import CLASSES, RULES, Cast

ACTOR, PARTNER, OCCLUDER = np.asarray([60.0, 62.0]), np.asarray([94.0, 30.0]), np.asarray([88.0, 90.0])
TIME = np.linspace(-0.5, 0.5, 41)
PIVOT = 20
RIM = ACTOR + np.asarray([16.0, 0.0])


def cast(**changes) -> Cast:
    fields = {"unit": 128.0, "centre": np.asarray([63.5, 63.5]), "actor": ACTOR, "partner": PARTNER}
    fields |= {"occluder": OCCLUDER, "reach": 28.0, "speed": 1.0, "side": 1.0}
    return Cast(**(fields | changes))


def path(name: str, role: str, point: np.ndarray, **changes) -> np.ndarray:
    """Where a role carries a point, [T, 2]."""
    return (RULES[name](cast(**changes), TIME)[role] @ [*point, 1.0])[:, :2]


@given(
    name=st.sampled_from(CLASSES),
    pivot=st.integers(0, 24),
    speed=st.floats(0.85, 1.15),
    side=st.sampled_from([-1.0, 1.0]),
)
def test_every_rule_stands_still_at_time_zero(name, pivot, speed, side):
    time = (np.arange(25) - pivot) / 24
    for matrices in RULES[name](cast(speed=speed, side=side), time).values():
        assert matrices.shape == (25, 3, 3)
        np.testing.assert_allclose(matrices[pivot], np.eye(3), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "direction"),
    [("pushed_left", [-1, 0]), ("pushed_right", [1, 0]), ("lifted", [0, -1]), ("falling", [0, 1])],
)
def test_straight_motions(name, direction):
    steps = np.diff(path(name, "actor", ACTOR), axis=0)
    lengths = steps @ direction
    np.testing.assert_allclose(steps, lengths[:, None] * direction, atol=1e-9)
    assert (lengths > 0).all()
    assert 1 < lengths.mean() < 6


def test_falling_accelerates():
    assert (np.diff(path("falling", "actor", ACTOR)[:, 1], n=2) > 0).all()


@pytest.mark.parametrize(("name", "sign"), [("turning_clockwise", 1), ("turning_counterclockwise", -1)])
def test_turning(name, sign):
    rim = path(name, "actor", RIM) - ACTOR
    np.testing.assert_allclose(np.linalg.norm(rim, axis=-1), 16.0)
    x, y = rim.T
    turned = x[:-1] * y[1:] - y[:-1] * x[1:]  # above 0: clockwise, as y points down
    assert (sign * turned > 0).all()


@pytest.mark.parametrize(("name", "sign"), [("approaching", 1), ("receding", -1)])
def test_resizing(name, sign):
    rim = np.linalg.norm(path(name, "actor", RIM, speed=0.85) - ACTOR, axis=-1)
    assert (sign * np.diff(rim) > 0).all()
    assert max(rim[0], rim[-1]) > 2.5 * min(rim[0], rim[-1])


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_passing_behind_crosses_the_occluder(side):
    actor = path("passing_behind", "actor", ACTOR, side=side)
    ahead = (actor - OCCLUDER) @ (OCCLUDER - ACTOR) * side
    assert ahead[0] < 0 < ahead[-1]
    assert np.linalg.norm(actor - OCCLUDER, axis=-1).min() < 3


def test_colliding_touches_once_and_recoils():
    gap = np.linalg.norm(path("colliding", "actor", ACTOR) - path("colliding", "partner", PARTNER), axis=-1)
    contact = gap.argmin()
    assert gap[contact] == pytest.approx(28.0, abs=1.5)
    assert PIVOT < contact < 40
    assert (np.diff(gap[: contact + 1]) < 0).all()
    assert (np.diff(gap[contact + 1 :]) > 0).all()


def test_moving_apart_starts_together():
    gap = np.linalg.norm(path("moving_apart", "actor", ACTOR) - path("moving_apart", "partner", PARTNER), axis=-1)
    assert gap[0] < 28.0
    assert (np.diff(gap) > -1e-9).all()
    assert gap[-1] > 1.5 * gap[PIVOT]


@pytest.mark.parametrize(("name", "axis", "reversals"), [("bouncing", 1, 3), ("swinging", 0, 2), ("shaking", 0, 10)])
def test_motions_that_return(name, axis, reversals):
    steps = np.diff(path(name, "actor", ACTOR)[:, axis])
    assert np.count_nonzero(np.diff(np.sign(steps))) >= reversals


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_the_camera_moves_everything(side):
    for name in ("camera_panning", "camera_zooming"):
        assert set(RULES[name](cast(side=side), TIME)) == {"camera"}
    steps = np.diff(path("camera_panning", "camera", ACTOR, side=side), axis=0)
    assert (side * steps[:, 0] > 1).all()
    spread = np.linalg.norm(path("camera_zooming", "camera", PARTNER, side=side) - 63.5, axis=-1)
    assert (side * np.diff(spread) > 0).all()
