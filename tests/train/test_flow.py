"""Training of the flow network: the loss, the step, and a run that is cut off."""

import dataclasses
import functools
import json
from types import SimpleNamespace

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax import cli
from mgmae_jax.commands.config_file import load_config
from mgmae_jax.data.flow_files import find_pairs
from mgmae_jax.errors import ConfigError, FileError
from mgmae_jax.flow.clip_flow import pair_flow
from mgmae_jax.flow.raft import RaftSmall, init_params, upsample_flow
from mgmae_jax.interop.flow_weights import load_flow_weights, save_flow_weights
from mgmae_jax.runtime.checkpoint import restore_params
from mgmae_jax.runtime.metrics import MetricWriter, read_metrics
from mgmae_jax.train.flow import (
    Stage,
    build_flow_training,
    check_flow_config,
    flow_after_each,
    read_stages,
    sequence_loss,
)
from mgmae_jax.train.flow_perturbation import LARGEST, SMALLEST, draw_errors
from mgmae_jax.train.flow_validation import REAL_ITERS, FlowValidation, score_pair

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
SMALL = [
    "--config.train.steps=(3,2)",
    "--config.train.size=(64,72)",
    "--config.train.batch_size=(8,8)",
    "--config.train.iters=(1,2)",
    "--config.train.log_every=1",
    "--config.validate.every=2",
    "--config.validate.pairs=2",
    "--config.validate.size=64",
    "--config.validate.iters=1",
    "--config.checkpoint.every=2",
]


@pytest.fixture(scope="module")
def params():
    return init_params(jax.random.key(0))


def config(*overrides):
    return load_config("configs/flow/raft_small_cpu.py", [*SMALL, *overrides])


def test_later_updates_count_more():
    truth = jnp.zeros((1, 4, 4, 2))
    flows = jnp.stack([jnp.full((1, 4, 4, 2), error) for error in (1.0, 2.0, 4.0)])
    assert float(sequence_loss(flows, truth)) == pytest.approx(0.64 * 1 + 0.8 * 2 + 4)


def test_flow_after_each_ends_where_the_network_ends(params):
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8))
    flows = jax.jit(lambda params: flow_after_each(params, images[:1], images[1:], iters=3))(params)
    index = np.arange(2, dtype=np.int32)
    whole = jax.jit(lambda params: pair_flow(params, images, index[:1], index[1:], iters=3))(params)
    np.testing.assert_allclose(flows[-1], whole, atol=2e-3)
    assert not np.allclose(flows[0], flows[1])


def test_both_programs_have_one_gradient(params):
    """What a CPU unrolls and what an accelerator scans are the same function."""
    keys = jax.random.split(jax.random.key(0), 3)
    inputs = [jax.random.normal(key, (1, 8, 8, width)) for key, width in zip(keys, (128, 128, 160), strict=True)]

    errors = draw_errors(jax.random.key(1), 0.9, 2, 1, 8, 8)

    def total(params, for_cpu):
        options = {"iters": 2, "for_cpu": for_cpu, "every": True, "errors": errors, "method": "refine"}
        return jnp.square(RaftSmall().apply({"params": params}, *inputs, **options)).sum()

    one, two = (jax.jit(jax.grad(lambda params, cpu=cpu: total(params, cpu)))(params) for cpu in (True, False))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4 * float(jnp.abs(a).max() + 1e-3))


def test_errors_are_smooth_rare_and_of_every_size():
    errors = draw_errors(jax.random.key(0), 0.25, 8, 64, 16, 24)
    assert errors.shape == (8, 64, 16, 24, 2)
    largest = jnp.abs(errors).max(axis=(2, 3, 4))
    assert 0.15 < (largest > 0).mean() < 0.35
    sizes = largest[largest > 0]
    assert sizes.min() < 2 * SMALLEST
    assert sizes.max() > LARGEST
    steps = jnp.abs(jnp.diff(errors, axis=3)).max(axis=(2, 3, 4))
    assert (steps <= largest / 4).all()
    assert not draw_errors(jax.random.key(0), 0.0, 8, 4, 16, 24).any()


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_each_update_finds_the_error_in_the_flow(params, share):
    """A network whose head asks for no change ends at the sum of the errors."""
    still = dict(params) | {"flow_head": jax.tree.map(jnp.zeros_like, params["flow_head"])}
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8))
    errors = draw_errors(jax.random.key(3), share, 3, 2, 8, 8)
    flows = jax.jit(lambda *options: flow_after_each(*options[:3], iters=3, errors=options[3]))(
        still, images[:2], images[2:], errors
    )
    np.testing.assert_allclose(flows, jax.vmap(upsample_flow)(jnp.cumsum(errors, axis=0)), atol=1e-4)
    assert bool(errors.any()) == (share > 0)


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_each_step_has_errors_of_its_own(params, share):
    training = build_flow_training(config(f"--config.train.perturb={share}"), Stage(0, 2, 0, 64, 2, 2), 2)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    pairs = {"image1": images, "image2": images[::-1], "flow": np.zeros((2, 64, 64, 2), np.float32)}
    state = training.start(params)
    step = jax.jit(training.step)
    first, again, second = (
        float(step(dataclasses.replace(state, step=jnp.int32(number)), {}, pairs, jax.random.key(1))[1]["loss"])
        for number in (0, 0, 1)
    )
    assert first == again
    assert (first == second) == (share == 0)


@pytest.mark.slow
def test_training_learns_to_see_motion():
    training = build_flow_training(config("--config.optim.warmup=0.2"), Stage(0, 40, 0, 64, 4, 2), 40)
    state = jax.jit(training.init)(jax.random.key(0))
    image = np.random.default_rng(0).integers(0, 256, (4, 9, 9, 3)).astype(np.uint8)
    image = (
        np.asarray(jax.image.resize(image.astype(np.float32), (4, 72, 72, 3), "cubic")).clip(0, 255).astype(np.uint8)
    )
    pairs = {
        "image1": image[:, 4:68, 4:68],
        "image2": image[:, 4:68, 0:64],
        "flow": np.zeros((4, 64, 64, 2), np.float32),
    }
    pairs["flow"][..., 0] = 4  # the content moves to the right
    step = jax.jit(training.step)
    errors = []
    for _ in range(40):
        state, metrics = step(state, {}, pairs, jax.random.key(1))
        errors.append(float(metrics["epe"]))
    assert errors[0] > 3
    assert np.mean(errors[-5:]) < 1


def test_the_curriculum_numbers_steps_and_pairs():
    stages = read_stages(config())
    assert stages == [Stage(0, 3, 0, 64, 8, 1), Stage(3, 5, 24, 72, 8, 2)]


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("train.size=(64,70)", "train.size"),
        ("train.size=(32,64)", "train.size"),
        ("train.iters=(1,)", "train.iters"),
        ("train.steps=(0,2)", "train.steps"),
        ("optim.lr=0.0", "optim.lr"),
        ("optim.warmup=1.0", "optim.warmup"),
        ("train.ema=1.0", "train.ema"),
        ("train.perturb=1.0", "train.perturb"),
        ("data.draw='gpu'", "data.draw"),
        ("validate.size=65", "validate.size"),
        ("validate.pairs=0", "validate.pairs"),
        ("train.dtype='float16'", "train.dtype"),
    ],
)
def test_wrong_values_are_named(override: str, field: str):
    wrong = config(f"--config.{override}")

    def build():
        check_flow_config(wrong)
        return [build_flow_training(wrong, stage, 5) for stage in read_stages(wrong)]

    with pytest.raises(ConfigError, match=field.replace(".", r"\.")):
        build()


def test_every_flow_config_builds():
    for name in ("raft_small", "raft_small_cpu"):
        whole = load_config(f"configs/flow/{name}.py")
        check_flow_config(whole)
        stages = read_stages(whole)
        training = build_flow_training(whole, stages[0], stages[-1].end_step)
        state = jax.eval_shape(training.init, jax.random.key(0))
        assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) == 990_162


@pytest.mark.slow
def test_a_run_begins_from_given_weights_and_looks_at_real_pairs(tmp_path, params):
    save_flow_weights(tmp_path / "start.safetensors", params)
    folder = tmp_path / "pairs" / "mine"
    folder.mkdir(parents=True)
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for number in (1, 2):
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    size, flow = np.array([64, 64], "<i4"), np.full((64, 64, 2), 3, "<f4")
    (folder / "f.flo").write_bytes(b"PIEH" + size.tobytes() + flow.tobytes())
    command = ["train-flow", "--config=configs/flow/raft_small_cpu.py", *SMALL]
    # At a rate this low the parameters stay where they began.
    options = [f"--config.init={tmp_path}/start.safetensors", "--config.optim.lr=1e-12", "--config.optim.min_lr=0.0"]
    options += [f"--config.validate.folder={tmp_path}/pairs", f"--workdir={tmp_path}/run"]
    assert cli.main([*command, *options]) == 0
    lines = read_metrics(tmp_path / "run" / "validation")
    assert [line["step"] for line in lines] == [0, 2, 4, 5]  # what the run starts from is scored, too
    pair = find_pairs(tmp_path / "pairs")[0].read()
    start = jax.jit(functools.partial(score_pair, iters=REAL_ITERS))(params, pair)
    assert [line["real/mine"] for line in lines] == pytest.approx([float(start["epe"])] * 4, rel=1e-3)
    kept = load_flow_weights(tmp_path / "run" / "best.safetensors")
    for one, two in zip(jax.tree.leaves(kept), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)


def test_only_what_beats_the_given_weights_is_kept(tmp_path, params, capsys):
    """A validation that is worse than that of the start leaves the file of the best weights as it was."""
    worse = jax.tree.map(lambda leaf: leaf * 50, params)
    kept = []
    with MetricWriter(tmp_path, True) as writer:
        arguments = (config().validate, 0, {}, writer, lambda params, scores, step: kept.append(step), 4)
        validation = FlowValidation(*arguments, starts_trained=True)
        for step, now in ((0, params), (2, worse), (4, params)):
            validation(step, SimpleNamespace(ema=now))
    assert kept == [0]
    assert capsys.readouterr().err.count("the best so far") == 1


def test_weights_that_could_not_be_kept_are_validated_again(tmp_path, params):
    def full(params, scores, step):
        raise FileError("best.safetensors", "the disk is full")

    with MetricWriter(tmp_path, True) as writer:
        arguments = (config().validate, 0, {}, writer, full, 4)
        validation = FlowValidation(*arguments, starts_trained=True)
        with pytest.raises(FileError):
            validation(0, SimpleNamespace(ema=params))
    assert not writer.path.exists() or read_metrics(writer.path) == []


@pytest.mark.slow
@pytest.mark.parametrize("draw", ["host", "device"])
def test_a_run_cut_off_ends_as_one_that_was_not(tmp_path, draw: str):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    command = ["train-flow", "--config=configs/flow/raft_small_cpu.py", *SMALL, f"--config.data.draw={draw}"]
    assert cli.main([*command, f"--workdir={whole}"]) == 0
    assert cli.main([*command, f"--workdir={cut}"]) == 0
    # As if it had been killed after the checkpoint of step 4, in the second stage.
    (cut / "checkpoints" / "5").rename(tmp_path / "away")
    assert cli.main([*command, f"--workdir={cut}"]) == 0
    metrics = [[(line["step"], line["loss"], line["epe"]) for line in read_metrics(path)] for path in (whole, cut)]
    assert metrics[0] == metrics[1]
    assert [step for step, *_ in metrics[0]] == [1, 2, 3, 4, 5]
    validation = read_metrics(whole / "validation")
    assert [line["step"] for line in validation] == [2, 4, 5]
    assert validation == read_metrics(cut / "validation")
    # As if it had been killed after its last checkpoint, before the validation.
    written = (cut / "validation" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (cut / "validation" / "metrics.jsonl").write_text("".join(written[:-1]))
    assert cli.main([*command, f"--workdir={cut}"]) == 0
    assert validation == read_metrics(cut / "validation")
    shapes = jax.eval_shape(init_params, jax.random.key(0))
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), shapes)
    one, two = (restore_params(path, abstract) for path in (whole, cut))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), one, two))
    kept = load_flow_weights(whole / "best.safetensors")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(kept))
    assert json.loads((whole / "config.json").read_text())["data"]["draw"] == draw
