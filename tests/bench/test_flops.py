import jax
import jax.numpy as jnp
import pytest
from jax import lax

from mgmae_jax.bench.flops import count_flops, flops_by_scope
from mgmae_jax.ops.placement import over_batch, placed_on
from mgmae_jax.ops.splash_attention import splash_attention
from mgmae_jax.runtime.mesh import make_mesh

SQUARE = jnp.zeros((4, 4))


def flops(function, *args) -> int:
    return count_flops(jax.jit(function).trace(*args).jaxpr.jaxpr)


def test_matrix_product():
    assert flops(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), jnp.zeros((5, 2, 3)), jnp.zeros((5, 3, 7))) == (
        2 * 5 * 2 * 3 * 7
    )


@pytest.mark.parametrize("groups", [1, 2])
def test_convolution(groups):
    def convolve(image, kernel):
        dims = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            image, kernel, (2, 2), "SAME", dimension_numbers=dims, feature_group_count=groups
        )

    image, kernel = jnp.zeros((2, 8, 8, 6)), jnp.zeros((3, 3, 6 // groups, 10))
    assert flops(convolve, image, kernel) == 2 * (2 * 4 * 4 * 10) * (3 * 3 * 6 // groups)


def test_a_loop_counts_as_often_as_it_runs():
    assert flops(lambda x: lax.scan(lambda carry, _: (carry @ x, None), x, None, length=6)[0], SQUARE) == 6 * 2 * 4**3


def test_the_dearest_branch_counts():
    def product(x):
        return lax.platform_dependent(x, cpu=lambda x: x @ x, default=lambda x: x @ x @ x)

    assert flops(product, SQUARE) == 2 * 2 * 4**3


def test_gradient_and_recomputation_count():
    def loss(x, y):
        return jnp.sum(jax.checkpoint(lambda x: jnp.sin(x @ y))(x))

    assert flops(loss, SQUARE, SQUARE) == 2 * 4**3
    assert flops(jax.grad(loss, argnums=(0, 1)), SQUARE, SQUARE) == 4 * 2 * 4**3


def test_it_agrees_with_xla_where_nothing_loops():
    def network(x):
        return jnp.tanh(x @ x) @ x

    x = jnp.zeros((256, 256))
    assert flops(network, x) == pytest.approx(jax.jit(network).lower(x).compile().cost_analysis()["flops"], rel=0.01)


def test_operations_are_found_by_their_scopes():
    def network(x):
        with jax.named_scope("loop"):
            x = lax.scan(lambda carry, _: (carry @ x, None), x, None, length=3)[0]
        with jax.named_scope("after"):
            return jax.jit(lambda x: x @ x)(x)

    found = flops_by_scope(jax.jit(network).trace(SQUARE).jaxpr.jaxpr)
    assert {"loop" in path: flops for path, flops in found.items()} == {True: 3 * 2 * 4**3, False: 2 * 4**3}


def test_a_kernel_counts_its_blocks_and_a_split_function_its_devices():
    def attend(x):
        with placed_on(make_mesh(1)):
            return over_batch(lambda x: splash_attention(x, x, x, interpret=True), 8)(x)

    products, padded, heads, width = 2, 256, 3, 64
    expected = 8 * heads * products * 2 * padded * padded * width
    assert flops(attend, jnp.zeros((8, 200, heads, width), jnp.bfloat16)) == expected
