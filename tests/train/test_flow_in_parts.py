from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.commands.config_file import load_config
from mgmae_jax.flow.clip_flow import clips_at_once
from mgmae_jax.ops.tokens import TokenGrid
from mgmae_jax.train import masks


def test_on_a_tpu_the_flow_of_a_few_clips_after_another_is_that_of_all(monkeypatch: pytest.MonkeyPatch):
    def flow_of(step: masks.MaskStep, params: Any, key: jax.Array, clip: jax.Array, given: Any) -> jax.Array:
        return clip[1:, ..., :2].astype(jnp.float32) * params + jax.random.normal(key, (3, 64, 64, 2))

    monkeypatch.setattr(masks.MaskStep, "flow_of", flow_of)
    fields = ["clip.frames=4", "clip.size=64", "mask.preset=fast"]
    step = masks.build_mask_step(load_config("pretrain/common", [f"--config.{field}" for field in fields]))
    clips = jnp.asarray(np.random.default_rng(0).integers(0, 256, (6, 4, 64, 64, 3), dtype=np.uint8))
    keys = jax.random.split(jax.random.key(1), 6)

    def flow_and_program() -> tuple[jax.Array, str]:
        traced = jax.jit(lambda: step.batch_flow(jnp.float32(3), {"clip": clips}, keys)).trace()
        return traced.lower().compile()(), str(traced.jaxpr)

    whole, at_once = flow_and_program()
    monkeypatch.setattr(masks, "traced_platform", lambda: "tpu")
    monkeypatch.setattr(masks, "clips_at_once", lambda grid, size: 2)
    found, in_parts = flow_and_program()
    np.testing.assert_allclose(found, whole, rtol=1e-6)
    assert ("scan" in at_once, "length=3" in in_parts) == (False, True)


@pytest.mark.parametrize(("size", "clips"), [(112, 8), (None, 2), (448, 1), (64, 24)])
def test_clips_at_once_are_as_many_as_have_so_many_cells(size: int | None, clips: int):
    assert clips_at_once(TokenGrid(16, 224, 224), size) == clips
