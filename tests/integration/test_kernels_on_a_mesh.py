"""A kernel that XLA cannot split, as a TPU's for attention, in every program with a model that a run has."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from mgmae_jax.cli import main
from mgmae_jax.data.frames import ClipSpec
from mgmae_jax.data.views import ViewSpec
from mgmae_jax.evaluate.video_map import VideoMap
from mgmae_jax.ops import attention as attention_module
from mgmae_jax.ops import splash_attention as splash_module
from mgmae_jax.ops.attention import attend_by_products, attention
from mgmae_jax.probe.heads import best_classes
from mgmae_jax.runtime.mesh import make_mesh, put_replicated
from mgmae_jax.train.baselines import GUESSES
from mgmae_jax.train.pretrain import Pretraining
from mgmae_jax.train.state import TrainState
from tests.integration.runs import command


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stands in for the kernel, and is as strict: each device has to run it on its own examples. Keeps their number."""
    taken = []

    def whole(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        mesh = jax.sharding.get_abstract_mesh()
        assert not mesh.empty, "XLA would have to split this kernel"
        assert set(mesh.axis_types) == {AxisType.Manual}
        taken.append(len(query))
        return attend_by_products(query, key, value)

    monkeypatch.setattr(attention_module, "traced_platform", lambda: "tpu")
    monkeypatch.setattr(splash_module, "splash_attention", whole)
    return taken


def attended(x: jax.Array) -> jax.Array:
    x = jnp.broadcast_to(x.reshape(len(x), -1, 1, 1)[:, :4], (len(x), 4, 1, 8)).astype(jnp.float32)
    return attention(x, x, x)[:, 0, 0]


def test_features_and_predictions_of_videos(kernel: list[int], twelve_videos: Path):
    mesh, views = make_mesh(), ViewSpec(ClipSpec(4, 1, 32), "uniform", clips=2, crops=1)

    def scores(params: dict, clips: jax.Array) -> jax.Array:
        return attended(mapped.flat(clips)).reshape(len(clips), -1)

    mapped = VideoMap(scores, mesh, views, workers=0, clips_per_device=2)
    assert len(list(mapped({}, sorted(map(str, twelve_videos.iterdir()))))) == 2
    assert kernel == [2]


def test_an_attentive_probe(kernel: list[int]):
    mesh = make_mesh()
    best_classes(lambda known, rows: attended(rows), put_replicated(np.zeros(()), mesh), np.zeros((20, 8)), mesh, 2)
    assert kernel == [2]


def test_pre_training_with_its_pictures_and_guesses(
    kernel: list[int], twelve_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    init = Pretraining.init

    def without_kernel(self: Pretraining, key: jax.Array) -> TrainState:
        with monkeypatch.context() as plain:  # what attention gives is not used, so a compiler removes the kernel
            plain.setattr(attention_module, "traced_platform", lambda: "cpu")
            return init(self, key)

    monkeypatch.setattr(Pretraining, "init", without_kernel)
    fields = {"data__path": twelve_videos, "flow__source": "none", "mask__strategy": "tube", "preview__every": 1}
    short = {"train__epochs": 1, "train__batch_size": 16, "optim__warmup_epochs": 0}
    assert main(command(tmp_path, **fields, **short)) == 0
    assert (tmp_path / GUESSES).exists()
    assert (tmp_path / "previews" / "00000000.png").exists()
    assert set(kernel) == {2}
