import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgmae_jax.ops.placement import over_parts, placed_on
from mgmae_jax.runtime.mesh import make_mesh

BATCH = 48  # six on each of the eight devices


@pytest.mark.parametrize(("most", "part"), [(1, 8), (2, 16), (4, 24), (5, 24), (6, 48), (99, 48)])
def test_parts_are_equal_and_no_larger_than_asked_on_any_device(most: int, part: int):
    seen = []

    def double(tree: dict[str, jax.Array]) -> jax.Array:
        seen.append(tree["x"].shape[0])
        return tree["x"] * 2 + tree["y"]

    @jax.jit
    def split(x: jax.Array) -> jax.Array:
        with placed_on(make_mesh(1)):
            return over_parts(double, BATCH, most)({"x": x, "y": x[:, :1]})

    x = jnp.arange(BATCH * 3.0).reshape(BATCH, 3)
    np.testing.assert_array_equal(split(x), x * 2 + x[:, :1])
    assert set(seen) == {part}


def test_every_device_keeps_its_own_examples():
    mesh = make_mesh(1)
    split = jax.NamedSharding(mesh, jax.P(mesh.axis_names))

    def step(x: jax.Array) -> jax.Array:
        with placed_on(mesh):
            return over_parts(jnp.sin, BATCH, 2)(x)

    x = jax.ShapeDtypeStruct((BATCH, 512), jnp.float32, sharding=split)
    text = jax.jit(step, out_shardings=split).lower(x).compile().as_text()
    assert not [kind for kind in ("all-gather", "all-to-all", "collective-permute") if kind in text]


def test_without_a_mesh_the_whole_batch_is_one_devices():
    keys = jax.random.split(jax.random.key(0), 6)
    draw = jax.vmap(lambda key: jax.random.uniform(key, (2,)))
    np.testing.assert_array_equal(over_parts(draw, 6, 2)(keys), draw(keys))
