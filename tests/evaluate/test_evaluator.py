import csv
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.sources import VideoList
from mgmae_jax.data.views import ViewSpec, read_views
from mgmae_jax.errors import ConfigError, FileError, MgmaeError
from mgmae_jax.evaluate import video_map
from mgmae_jax.evaluate.evaluator import Evaluator, checksum
from mgmae_jax.runtime.mesh import make_mesh, tree_shardings
from mgmae_jax.runtime.preemption import Preempted
from tests.data.conftest import write_video

CLASSES = tuple("abcdefg")
VIEWS = ViewSpec(ClipSpec(4, 2, 32), "uniform", clips=2, crops=3)


def logits(params, clips):
    """A linear model of a few pixels."""
    pixels = clips[:, :, ::8, ::8].reshape(len(clips), -1).astype(jnp.float32) / 255
    return pixels @ params["kernel"]


@pytest.fixture(scope="module")
def params():
    return {"kernel": np.random.default_rng(0).normal(size=(4 * 4 * 4 * 3, 7)).astype(np.float32)}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """13 of them: no multiple of any batch."""
    root = tmp_path_factory.mktemp("thirteen")
    rng = np.random.default_rng(0)
    paths = []
    for i in range(13):
        noise = np.kron(rng.integers(0, 256, (12 + i, 6, 8, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
        paths.append(str(write_video(root / f"{i}.mp4", frames=noise)))
    return VideoList(tuple(paths), tuple(int(label) for label in rng.integers(0, 7, 13)), CLASSES)


def evaluator(videos, *, devices=1, clips=6, model=logits, **options):
    mesh = make_mesh(devices=jax.devices()[:devices])
    return Evaluator(model, mesh, videos, VIEWS, CLASSES, workers=0, clips_per_device=clips, **options)


def placed(params, devices=1):
    return jax.device_put(params, tree_shardings(make_mesh(devices=jax.devices()[:devices]), params))


@pytest.fixture(scope="module")
def reference(videos, params):
    return evaluator(videos).predict(placed(params))[0]


def test_it_is_the_mean_of_the_softmax_over_the_views(videos, params, reference):
    for path, best, probabilities in zip(videos.paths, reference.best, reference.probabilities, strict=True):
        scores = np.asarray(logits(params, jnp.asarray(read_views(path, VIEWS))), np.float64)
        shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        mean = shares.mean(axis=0)
        assert best.tolist() == np.argsort(-mean)[:5].tolist()
        np.testing.assert_allclose(probabilities, mean[best], rtol=1e-5)


@pytest.mark.parametrize(("devices", "clips"), [(8, 6), (8, 12), (1, 18), (4, 6)])
def test_devices_and_batches_change_no_prediction(videos, params, reference, devices, clips):
    found, missing = evaluator(videos, devices=devices, clips=clips).predict(placed(params, devices))
    assert missing == []
    np.testing.assert_array_equal(found.best, reference.best)
    np.testing.assert_allclose(found.probabilities, reference.probabilities, rtol=1e-6)


def test_it_compiles_once_for_all_calls(videos, params):
    traces = []

    def counted(params, clips):
        traces.append(clips.shape)
        return logits(params, clips)

    evaluate = evaluator(videos, model=counted)
    first = evaluate(placed(params))
    assert first.videos == 13
    other = evaluate(placed({"kernel": -params["kernel"]}))
    assert other.top1 != first.top1
    assert traces == [(6, 4, 32, 32, 3)]


@pytest.mark.parametrize("batches", [1, 3])
def test_interrupted_and_resumed_on_other_devices_it_is_the_same_file(
    videos, params, reference, tmp_path, monkeypatch, batches
):
    evaluator(videos).predict(placed(params), tmp_path / "whole")
    mapped, calls = video_map._mapped, []

    def stops(*arguments):
        calls.append(1)
        if len(calls) > batches:
            raise KeyboardInterrupt
        return mapped(*arguments)

    monkeypatch.setattr(video_map, "_mapped", stops)
    with pytest.raises(KeyboardInterrupt):
        evaluator(videos).predict(placed(params), tmp_path / "cut")
    monkeypatch.undo()
    with (tmp_path / "cut" / "predictions.csv").open() as file:
        assert len(list(csv.reader(file))) == 1 + batches
    found, _ = evaluator(videos, devices=8).predict(placed(params, 8), tmp_path / "cut")
    np.testing.assert_array_equal(found.best, reference.best)
    whole, cut = ((tmp_path / name / "predictions.csv").read_text().splitlines() for name in ("whole", "cut"))
    assert [line.split(",")[:4] for line in cut] == [line.split(",")[:4] for line in whole]


def test_left_for_a_preemption_it_resumes_from_what_is_known(videos, params, reference, tmp_path):
    asked = []

    def preempted():
        asked.append(1)
        return len(asked) == 3

    with pytest.raises(Preempted):
        evaluator(videos).predict(placed(params), tmp_path, preempted=preempted)
    known = (tmp_path / "predictions.csv").read_text().count("\n") - 1
    assert 0 < known < len(videos)
    seen = []
    found, _ = evaluator(videos).predict(placed(params), tmp_path, preempted=lambda: bool(seen.append(1)))
    np.testing.assert_array_equal(found.best, reference.best)
    assert 0 < len(seen) <= len(videos) - known


def test_a_finished_evaluation_is_not_made_again(videos, params, reference, tmp_path):
    evaluator(videos).predict(placed(params), tmp_path)

    def never(params, clips):
        raise AssertionError("the model is asked again")

    found, _ = evaluator(videos, model=never).predict(placed(params), tmp_path)
    np.testing.assert_array_equal(found.best, reference.best)


@pytest.fixture
def with_bad(videos, tmp_path):
    """The fifth video is unreadable."""
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"not a video")
    return dataclasses.replace(videos, paths=(*videos.paths[:4], str(bad), *videos.paths[5:]))


def test_an_unreadable_video_is_an_error_that_names_it(with_bad, params, tmp_path):
    with pytest.raises(FileError, match=r"bad\.mp4: cannot be read as a video .*data\.allow_missing=true"):
        evaluator(with_bad).predict(placed(params), tmp_path)


def test_a_missing_video_is_reported_and_changes_no_other(with_bad, params, reference, tmp_path):
    found, missing = evaluator(with_bad, devices=8, allow_missing=True).predict(placed(params, 8))
    others = np.delete(np.arange(13), 4)
    assert [one.path for one in missing] == [with_bad.paths[4]]
    assert found.todo.tolist() == [4]
    np.testing.assert_array_equal(found.best[others], reference.best[others])
    report = evaluator(with_bad, allow_missing=True)(placed(params))
    assert report.videos == 12
    hits = (reference.best[others, 0] == np.array(with_bad.labels)[others]).mean()
    assert report.top1.value == hits
    assert len(report.missing) == 1


def test_a_diverged_model_is_told(videos, params):
    with pytest.raises(MgmaeError, match=r"0\.mp4 is not finite"):
        evaluator(videos)(placed({"kernel": params["kernel"] * np.nan}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None}, r"0\.mp4: has no label"),
        ({"labels": (2,) * 13, "class_names": None}, r"list of videos has numbers, the model's classes are a, b, c"),
        ({"labels": (0,) * 13, "class_names": ("h",)}, "not trained on: h"),
        ({"labels": (), "paths": ()}, "holds no video"),
    ],
)
def test_videos_that_do_not_fit_are_refused(videos, change, message):
    with pytest.raises(MgmaeError, match=message):
        evaluator(dataclasses.replace(videos, **change))


def test_without_labels_the_predictions_are_the_same(videos, params, reference, tmp_path):
    unlabelled = evaluator(dataclasses.replace(videos, labels=None), unlabelled=True)
    found, _ = unlabelled.predict(placed(params), tmp_path)
    np.testing.assert_array_equal(found.best, reference.best)
    assert found.labels is None
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["label"], row["label_name"]) for row in rows} == {("", "")}
    assert [row["prediction_name"] for row in rows] == [CLASSES[best] for best in reference.best[:, 0]]


def test_a_device_works_on_something(videos):
    with pytest.raises(ConfigError, match=r"config\.eval\.clips_per_device=0"):
        evaluator(videos, clips=0)


def test_a_checksum_tells_parameters_apart_and_no_meshes():
    rng = np.random.default_rng(0)
    params = {"a": rng.normal(size=(512, 256)).astype(np.float32), "b": rng.normal(size=(7,)).astype(np.float32)}
    mesh = make_mesh(fsdp=4)
    name = checksum(jax.device_put(params, tree_shardings(mesh, params)))
    assert name == checksum(placed(params))
    swapped = {"a": params["a"].copy(), "b": params["b"]}
    swapped["a"][[0, 1]] = swapped["a"][[1, 0]]
    assert checksum(placed(swapped)) != name
    changed = {"a": params["a"], "b": np.nextafter(params["b"], np.float32(9))}
    assert checksum(placed(changed)) != name
