import cv2
import numpy as np
import pytest

from mgmae_jax.datasets import motion_shapes
from mgmae_jax.datasets.motion_shapes.motion import CLASSES
from mgmae_jax.datasets.motion_shapes.scene import Scene, draw, sample_scene, scene_flow, top_layers

SIZE, FRAMES = (96, 112), 16


def pull(image: np.ndarray, flow: np.ndarray, outside: float = 0.0) -> np.ndarray:
    """The image at p + flow(p)."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    return cv2.remap(image, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderValue=outside)


def comparable(start: np.ndarray, end: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Pixels away from sprite borders that show the same layer in both frames."""
    inner = cv2.morphologyEx(start, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) == 0
    return inner & (pull(end.astype(np.float32), flow, outside=-1.0) == start)


@pytest.mark.parametrize("label", range(len(CLASSES)), ids=CLASSES)
def test_warping_by_the_true_flow_gives_back_the_frame(label):
    scene = sample_scene(0, label, size=SIZE, frames=FRAMES)
    frames, top, forward = draw(scene), top_layers(scene), scene_flow(scene)
    assert forward.shape == (FRAMES - 1, *SIZE, 2)
    assert forward.dtype == np.float32
    warped, unwarped, share = [], [], []
    for i in range(FRAMES - 1):
        keep = comparable(top[i], top[i + 1], forward[i])
        target = frames[i].astype(np.float32)[keep]
        warped.append(np.abs(pull(frames[i + 1].astype(np.float32), forward[i])[keep] - target).mean())
        unwarped.append(np.abs(frames[i + 1].astype(np.float32)[keep] - target).mean())
        share.append(keep.mean())
    assert np.mean(share) > 0.6
    assert np.mean(warped) < 2.0
    assert np.mean(warped) < 0.5 * np.mean(unwarped)


def test_backward_flow_undoes_forward_flow():
    scene = sample_scene(0, CLASSES.index("turning_clockwise"), size=SIZE, frames=FRAMES)
    top, forward, backward = top_layers(scene), scene_flow(scene), scene_flow(scene, backward=True)
    for i in range(FRAMES - 1):
        keep = comparable(top[i], top[i + 1], forward[i])
        # Flow is affine within a layer, so bilinear sampling of it is exact, up to OpenCV's 1/32 pixel.
        round_trip = forward[i] + pull(backward[i], forward[i])
        assert np.abs(round_trip[keep]).max() < 0.05


def test_true_flow_belongs_to_the_rendered_video():
    scene = sample_scene(2, 3, size=SIZE, frames=FRAMES, label=5)
    options = {"size": SIZE, "frames": FRAMES, "label": 5}
    np.testing.assert_array_equal(motion_shapes.render(2, 3, **options).frames, draw(scene))
    np.testing.assert_array_equal(motion_shapes.true_flow(2, 3, **options), scene_flow(scene))
    np.testing.assert_array_equal(
        motion_shapes.true_flow(2, 3, backward=True, **options), scene_flow(scene, backward=True)
    )


def test_layers_without_a_role_move_with_the_camera_alone():
    scene = sample_scene(0, CLASSES.index("pushed_right"), size=SIZE, frames=FRAMES)
    worlds = scene.transforms @ np.linalg.inv(scene.transforms[:, scene.pivot : scene.pivot + 1])
    actor = 2
    for layer in set(range(1, len(worlds))) - {actor}:
        np.testing.assert_allclose(worlds[layer], worlds[0], atol=1e-9)
    pushed = np.linalg.inv(worlds[0]) @ worlds[actor]
    np.testing.assert_allclose(pushed[:, :2, :2], np.broadcast_to(np.eye(2), (FRAMES, 2, 2)), atol=1e-9)
    assert (np.diff(pushed[:, 0, 2]) > 0).all()
    np.testing.assert_allclose(pushed[:, 1, 2], 0.0, atol=1e-9)


def test_only_the_actor_is_pushed():
    scene = sample_scene(0, CLASSES.index("pushed_right"), size=SIZE, frames=FRAMES)
    flow, top = scene_flow(scene), top_layers(scene)[:-1]
    actor = 2
    assert flow[..., 0][top == actor].mean() > 2 + flow[..., 0][top != actor].mean()


def test_the_background_is_textured_everywhere():
    scene = sample_scene(0, 0, size=SIZE, frames=FRAMES)
    grey = cv2.cvtColor(scene.background, cv2.COLOR_RGB2GRAY).astype(np.float32)
    contrast = cv2.blur(grey**2, (17, 17)) - cv2.blur(grey, (17, 17)) ** 2
    assert np.sqrt(contrast).min() > 2


def block_means(frame: np.ndarray) -> np.ndarray:
    """Mean colours of blocks of 8 × 8 pixels."""
    height, width, _ = frame.shape
    return frame.reshape(height // 8, 8, width // 8, 8, 3).mean(axis=(1, 3))


def test_a_block_is_much_like_its_neighbours():
    differences, deviations = [], []
    for index in range(16):
        blocks = block_means(draw(sample_scene(0, index, size=(64, 64), frames=8))[3])
        deviations.append(np.square(blocks - blocks.mean(axis=(0, 1))).mean())
        differences.append(np.mean([np.square(np.diff(blocks, axis=axis)).mean() for axis in (0, 1)]))
    # Between independent blocks the ratio would be 2, and 0 were there no borders between things.
    assert np.mean(differences) < 0.8 * np.mean(deviations)


@pytest.mark.parametrize("name", [name for name in CLASSES if name != "passing_behind"])
def test_the_actor_stays_in_view(name):
    for seed in range(4):
        scene = sample_scene(seed, CLASSES.index(name), size=(64, 64), frames=FRAMES)
        share = (top_layers(scene) == 2).mean(axis=(1, 2))
        assert (share > 0.02).mean() > 0.7
        assert share.max() < 0.85


def centres(scene: Scene) -> np.ndarray:
    """Of the sprites in each frame, [sprites, T, 2]."""
    middles = np.asarray([[(sprite.shape[0] - 1) / 2] * 2 + [1.0] for sprite in scene.sprites])
    return np.einsum("stij,sj->sti", scene.transforms[1:], middles)[..., :2]


@pytest.mark.parametrize("seed", range(8))
def test_encounters_take_place_at_the_sprites_sizes(seed):
    for name, (first, second), nearest in (
        ("passing_behind", (1, 2), 0.06),
        ("colliding", (0, 1), 0.45),
        ("moving_apart", (0, 1), 0.2),
    ):
        spots = centres(sample_scene(seed, CLASSES.index(name), size=(64, 64), frames=FRAMES)) / 64
        assert np.linalg.norm(spots[first] - spots[second], axis=-1).min() < nearest
