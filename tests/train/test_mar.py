"""MAR's fine-tuning: masks, the bridge, the decoder's loss, and what a checkpoint and an evaluation have of them."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.cli import main
from mgmae_jax.commands.config_file import load_config
from mgmae_jax.datasets import motion_shapes
from mgmae_jax.errors import ConfigError, MgmaeError
from mgmae_jax.evaluate.run import abstract_params
from mgmae_jax.models.classifier import Bridge, Classifier, build_classifier
from mgmae_jax.ops.tokens import TokenGrid, normalise_cubes, patchify, take_tokens, unit_range
from mgmae_jax.probe.encoder import load_frozen
from mgmae_jax.runtime.checkpoint import FOLDER, Checkpoints, restore_params
from mgmae_jax.runtime.mesh import make_mesh
from mgmae_jax.runtime.rng import per_example, stream
from mgmae_jax.train.finetune import Finetuning
from mgmae_jax.train.mixing import MixOptions
from mgmae_jax.train.optim import adamw_direction, cosine_schedule, layer_scales
from tests.train.finetuned import finetuned_run
from tests.train.tiny import VARIANT

KEY = jax.random.key(0)
GRID = TokenGrid(8, 32, 32, patch=8)
MODEL = Classifier(VARIANT, GRID, 5, init_scale=1.0, hidden=2, bridge=Bridge(1, 16, 2), decoder_depth=1)
PLAIN = MixOptions(mixup=0, cutmix=0, smoothing=0)


def finetuning(model: Classifier = MODEL, weight: float = 0.1, **parts: object) -> Finetuning:
    scales = functools.partial(layer_scales, depth=VARIANT.depth, decay=0.75)
    optimiser = adamw_direction(b1=0.9, b2=0.999, weight_decay=0.0, scales=scales)
    schedule = cosine_schedule(3e-3, 3e-3, steps=99, warmup_steps=0)
    return dataclasses.replace(Finetuning(model, PLAIN, optimiser, schedule, hidden_weight=weight), **parts)


def batch_of(clips: int = 8) -> dict[str, np.ndarray]:
    """Clips in the colour of their label, with noise."""
    rng = np.random.default_rng(0)
    label = np.arange(clips, dtype=np.int32) % 5
    noise = rng.integers(0, 40, (clips, 8, 32, 32, 3))
    return {"clip": (noise + 40 * label[:, None, None, None, None]).astype(np.uint8), "label": label}


@functools.cache
def host_state():
    return jax.device_get(jax.jit(finetuning().init)(KEY))


def test_the_loss_falls_and_every_part_learns():
    step, state, losses = jax.jit(finetuning().step), host_state(), []
    for _ in range(25):
        state, metrics = step(state, {}, batch_of(), KEY)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.7 * losses[0]
    moved = jax.tree.map(lambda new, old: bool((np.asarray(new) != old).any()), state.params, host_state().params)
    assert set(moved) == {"encoder", "bridge_embed", "bridge_blocks", "fc_norm", "head", "decoder"}
    assert all(jax.tree.leaves(moved))


def hidden_of(tokens: np.ndarray) -> np.ndarray:
    """[t, h, w]."""
    hidden = np.zeros(GRID.tokens, bool)
    hidden[np.asarray(tokens)] = True
    return hidden.reshape(GRID.tubelets, GRID.rows, GRID.columns)


def official_masks() -> tuple[np.ndarray, np.ndarray]:
    """MAR's mask for tests, [8, 14, 14], and its four for training, for half of the tokens."""
    with np.load(Path(__file__).parents[1] / "golden/running_cell.npz") as arrays:
        size = 8 * 14 * 14
        masks = np.unpackbits(arrays["mar:hidden"])[: 15 * size].reshape(15, 8, 14, 14).astype(bool)
        half, phase = arrays["mar:ratio"][:15] == 0.5, arrays["mar:phase"][:15]
    return masks[half & (phase < 0)][0], masks[half & (phase >= 0)]


def test_the_masks_are_the_official_ones():
    at_test, in_training = official_masks()
    split = MODEL.split(2)
    for clip in range(2):
        np.testing.assert_array_equal(hidden_of(split.target[clip]), at_test[:4, :4, :4])
    keys = jax.random.split(KEY, 64)
    split = jax.vmap(lambda key: jax.tree.map(lambda leaf: leaf[0], MODEL.split(1, key[None])))(keys)
    assert split.visible.shape == split.target.shape == (64, GRID.tokens // 2)
    # Each clip has the tubelets of one of the four, in any order; over four tubelets all four have the same.
    expected = {tubelet.tobytes() for tubelet in in_training[0][:4, :4, :4]}
    orders = set()
    for tokens in split.target:
        tubelets = [tubelet.tobytes() for tubelet in hidden_of(tokens)]
        assert set(tubelets) == expected
        orders.add(tuple(tubelets))
    assert len(orders) > 12  # of 24
    np.testing.assert_array_equal(np.sort(np.concatenate(split, axis=1)), np.tile(np.arange(GRID.tokens), (64, 1)))


def test_the_loss_is_the_cross_entropy_and_a_share_of_the_hidden_error():
    params, batch = host_state().params, {name: jnp.asarray(array) for name, array in batch_of().items()}
    keys = per_example(stream(KEY, 0, "mask"), 0, 8)
    clips = unit_range(batch["clip"])

    @jax.jit
    def outputs(params):
        both = MODEL.apply({"params": params}, clips, None, None, keys, method=MODEL.classify_and_predict)
        return both, MODEL.apply({"params": params}, clips, None, None, keys)

    (logits, prediction, hidden), again = outputs(params)
    assert hidden.shape == (8, GRID.tokens // 2)
    np.testing.assert_allclose(logits, again, rtol=1e-5, atol=1e-6)
    wanted = normalise_cubes(take_tokens(patchify(clips, GRID), hidden))
    entropy = -float(jax.nn.log_softmax(logits)[np.arange(8), batch["label"]].mean())
    _, metrics = jax.jit(finetuning().step)(host_state(), {}, batch, KEY)
    want = entropy + 0.1 * float(jnp.square(prediction - wanted).mean())
    assert float(metrics["loss"]) == pytest.approx(want, rel=1e-5)


@pytest.mark.slow
def test_parts_change_nothing():
    losses = [
        jax.jit(finetuning(accumulate=parts).step)(host_state(), {}, batch_of(), KEY)[1]["loss"] for parts in (1, 4)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_an_evaluation_looks_at_the_shown_tokens_only():
    params, clip = host_state().params, batch_of(1)["clip"]
    score = jax.jit(lambda clips: MODEL.apply({"params": params}, clips))
    hidden = hidden_of(MODEL.split(1).target[0]).repeat(2, 0).repeat(8, 1).repeat(8, 2)
    changed = np.where(hidden[None, ..., None], 255 - clip, clip)
    np.testing.assert_array_equal(score(changed), score(clip))
    assert (score(255 - clip) != score(clip)).any()


def test_what_a_checkpoint_has_is_what_an_evaluation_reads(tmp_path: Path):
    state = host_state()
    with Checkpoints(tmp_path / FOLDER, every=1, keep=1) as checkpoints:
        checkpoints.save(1, state, {})
    wanted = abstract_params(MODEL, make_mesh())
    assert set(wanted) == set(state.params) - {"decoder"}  # which predicts only in training
    params = restore_params(tmp_path, wanted)
    score = jax.jit(lambda params: MODEL.apply({"params": params}, jnp.asarray(batch_of(2)["clip"])))
    one = jax.device_get((params, {name: state.params[name] for name in wanted}))
    np.testing.assert_array_equal(score(one[0]), score(one[1]))


@pytest.mark.slow
def test_evaluate_hides_what_the_runs_config_says(tmp_path: Path):
    videos = motion_shapes.prepare(tmp_path / "shapes", videos=6, seed=0, split="test", size=(32, 32), frames=8)
    fields = {"mask__ratio": 0.5, "mask__loss_weight": 0.1, "model__bridge_depth": 1, "model__decoder_depth": 1}
    run = tmp_path / "run"
    finetuned_run(run, motion_shapes.CLASSES, eval__path=videos, eval__crops=1, model__patch=8, **fields)

    def predictions(name: str, *overrides: str) -> str:
        assert main(["evaluate", "--checkpoint", str(run), "--out", str(tmp_path / name), *overrides]) == 0
        return (tmp_path / name / "predictions.csv").read_text()

    assert predictions("as_trained") == predictions("half", "--config.mask.ratio=0.5")
    assert predictions("whole", "--config.mask.ratio=0.0", "--config.mask.loss_weight=0.0") != predictions("as_trained")


def test_without_it_a_classifier_is_as_before():
    plain = Classifier(VARIANT, GRID, 5)
    assert plain.split(3) is None
    state = jax.eval_shape(finetuning(plain, 0.0).init, KEY)
    assert set(state.params) == {"encoder", "fc_norm", "head"}
    assert "norm" not in state.params["encoder"]["blocks"]


def config_with(**fields: object):
    small = {"clip.frames": 8, "clip.size": 32, "model.name": "tiny", "model.patch": 8}
    named = {name.replace("__", "."): value for name, value in fields.items()}
    return load_config("finetune/common", [f"--config.{name}={value}" for name, value in (small | named).items()])


def test_the_config_builds_it():
    fields = {"mask__ratio": 0.5, "mask__loss_weight": 0.1, "model__bridge_depth": 2, "model__decoder_depth": 3}
    model = build_classifier(config_with(**fields))
    assert (model.hidden, model.bridge, model.decoder_depth) == (2, Bridge(2, 512, 4), 3)
    plain = build_classifier(config_with())
    assert (plain.hidden, plain.bridge, plain.decoder_depth) == (0, None, 0)
    older = config_with()
    with older.unlocked():
        del older.mask
    assert build_classifier(older) == plain


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mask__ratio": 0.9}, r"config\.mask\.ratio=0\.9: give 0\.25, 0\.5 or 0\.75"),
        ({"mask__loss_weight": 0.1}, r"config\.mask\.loss_weight=0\.1: give 0 without mask\.ratio"),
        ({"mask__loss_weight": -0.1}, r"config\.mask\.loss_weight=-0\.1: give 0 or a positive"),
        ({"mask__loss_weight": float("inf")}, r"config\.mask\.loss_weight=inf: give 0 or a positive"),
        ({"model__bridge_depth": -1}, r"config\.model\.bridge_depth=-1"),
        ({"model__bridge_depth": 2, "model__bridge_heads": 3}, r"config\.model\.bridge_heads=3: give a divisor"),
        (
            {"mask__ratio": 0.5, "mask__loss_weight": 0.1, "model__bridge_depth": 2, "model__decoder_depth": 0},
            r"config\.model\.decoder_depth=0",
        ),
    ],
)
def test_what_cannot_work_is_named(fields: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        build_classifier(config_with(**fields))


def test_a_probe_refuses_it(tmp_path: Path):
    with pytest.raises(MgmaeError, match=r"cannot be probed: give the checkpoint of its pre-training"):
        load_frozen(config_with(mask__ratio=0.5), tmp_path, make_mesh())
