import jax
import jax.numpy as jnp
import pytest

from mgmae_jax.plan.costs import REST, Gathers, count_costs, scope_of
from mgmae_jax.plan.hlo import array_bytes, read_program

TPU = """\
HloModule jit_step, is_scheduled=true

%reads_a_row (p.0: f32[16,128], p.1: s32[]) -> f32[1,128] {
  %p.0 = f32[16,128]{1,0:T(8,128)} parameter(0)
  %p.1 = s32[]{:T(128)} parameter(1)
  ROOT %row = f32[1,128]{1,0:T(1,128)} dynamic-slice(%p.0, %p.1, %p.1), dynamic_slice_sizes={1,128}
}

%writes_a_row (p.0: f32[16,128], p.1: f32[1,128], p.2: s32[]) -> f32[16,128] {
  %p.0 = f32[16,128]{1,0:T(8,128)} parameter(0)
  %p.1 = f32[1,128]{1,0:T(1,128)} parameter(1)
  %p.2 = s32[]{:T(128)} parameter(2)
  %new = f32[16,128]{1,0:T(8,128)} dynamic-update-slice(%p.0, %p.1, %p.2, %p.2)
  ROOT %same = f32[16,128]{1,0:T(8,128)} bitcast(%new)
}

%body (c: (s32[], f32[16,128], f32[16,128])) -> (s32[], f32[16,128], f32[16,128]) {
  %c = (s32[]{:T(128)S(2)}, f32[16,128]{1,0:T(8,128)}, f32[16,128]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)S(2)} get-tuple-element(%c), index=0
  %x = f32[16,128]{1,0:T(8,128)} get-tuple-element(%c), index=1
  %y = f32[16,128]{1,0:T(8,128)} get-tuple-element(%c), index=2
  %in = f32[1,128]{1,0:T(1,128)S(1)} fusion(%x, %i), kind=kLoop, calls=%reads_a_row, metadata={op_name="jit(step)/jvp(vmap(flow))/a"}
  %one = f32[1,1]{1,0:T(1,128)S(1)} gather(%x, %i), slice_sizes={1,1}, metadata={op_name="jit(step)/jvp(vmap(flow))/b"}
  %out = f32[16,128]{1,0:T(8,128)} fusion(%y, /*index=1*/%in, %i), kind=kLoop, calls=%writes_a_row, metadata={op_name="jit(step)/jvp(vmap(flow))/c"}, backend_config={"estimated_cycles":"7"}
  ROOT %t = (s32[]{:T(128)S(2)}, f32[16,128]{1,0:T(8,128)}, f32[16,128]{1,0:T(8,128)}) tuple(%i, %x, %out)
}

%condition (c: (s32[], f32[16,128], f32[16,128])) -> pred[] {
  %limit = s32[]{:T(128)} constant(99)
  ROOT %less = pred[] compare(%i, %limit), direction=LT
}

ENTRY %main (x: f32[16,128], z: bf16[3,200]) -> f32[16,128] {
  %x = f32[16,128]{1,0:T(8,128)} parameter(0)
  %z = bf16[3,200]{1,0:T(8,128)(2,1)} parameter(1)
  %start = (bf16[3,200]{1,0:T(8,128)(2,1)S(1)}, bf16[3,200]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) copy-start(%z)
  %done = bf16[3,200]{1,0:T(8,128)(2,1)S(1)} copy-done(%start)
  %part = ((f32[16,128]{1,0:T(8,128)}), f32[8,128]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%x), slice={[0:8], [0:128]}
  %parted = f32[8,128]{1,0:T(8,128)S(1)} slice-done(%part)
  %all = f32[2,1568,1600]{2,1,0:T(8,128)S(1)} custom-call(%done, %parted), custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={
"block":"1"
}}, metadata={op_name="jit(step)/transpose(jvp(model))/attn"}
  %w = (s32[]{:T(128)S(2)}, f32[16,128]{1,0:T(8,128)}, f32[16,128]{1,0:T(8,128)}) while(%x), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %taken = f32[4,128]{1,0:T(4,128)S(1)} gather(%x, %done), slice_sizes={1,128}, metadata={op_name="jit(step)/update/gather"}
  ROOT %r = f32[16,128]{1,0:T(8,128)} get-tuple-element(%w), index=1
}
"""  # noqa: E501


def test_bytes_are_those_of_main_memory_in_tiles_and_as_often_as_a_loop_runs():
    costs = count_costs(TPU, 1568, 1792)
    row, prefetched = 128 * 4, 8 * 256 * 2
    assert {scope: moved for scope, moved in costs.bytes.items() if moved} == {
        "flow": 5 * 3 * row,  # read a row, read an element, which fills as much of a tile, and write a row
        "update": 4 * row,
        REST: prefetched + 8 * row,
    }
    assert costs.cycles == {"flow": 5 * 7}


def test_the_memory_that_an_operand_is_in_is_not_taken_for_its_number():
    program = """\
%reads_a_row (p.0: f32[1,128], p.1: f32[16,128]) -> f32[1,128] {
  %p.0 = f32[1,128]{1,0:T(1,128)S(1)} parameter(0)
  %p.1 = f32[16,128]{1,0:T(8,128)} parameter(1)
  %row = f32[1,128]{1,0:T(1,128)} slice(%p.1), slice={[0:1], [0:128]}
  ROOT %sum = f32[1,128]{1,0:T(1,128)} add(%p.0, %row)
}

ENTRY %main (near: f32[1,128], x: f32[16,128]) -> f32[1,128] {
  %near = f32[1,128]{1,0:T(1,128)S(1)} parameter(0)
  %x = f32[16,128]{1,0:T(8,128)} parameter(1)
  ROOT %sum = f32[1,128]{1,0:T(1,128)} fusion(%near, %x), kind=kLoop, calls=%reads_a_row
}
"""
    assert sum(count_costs(program, 1568, 1792).bytes.values()) == 2 * 128 * 4


def test_gathers_are_told_by_loops_and_by_their_slices():
    assert count_costs(TPU, 1568, 1792).gathers == Gathers(count=2, looped=1, scalar=1, scalar_looped=1)


def test_arrays_of_all_pairs_of_tokens_are_found_wherever_they_are():
    assert count_costs(TPU, 1568, 1792).pair_arrays == ("f32[2,1568,1600]",)
    assert count_costs(TPU, 1569, 1792).pair_arrays == ()


def test_a_kernels_attributes_over_several_lines_hide_nothing():
    kernel = next(one for one in read_program(TPU).instructions["main"] if one.name == "all")
    assert kernel.operands == ("done", "parted")
    assert scope_of(kernel.scope) == "model"


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("jit(step)/jvp(vmap(flow))/raft/mask_of/x", "flow"),
        ("jit(step)/transpose(jvp(model))/MaskedAutoencoder/dot", "model"),
        ("jit(step)/jvp(vmap(mask_loss))/x", REST),
        ("", REST),
    ],
)
def test_a_scope_is_the_first_whole_word(path: str, scope: str):
    assert scope_of(path) == scope


def test_an_array_takes_whole_tiles():
    assert array_bytes("bf16", "24,56,32", "2,1,0:T(8,128)(2,1)") == 24 * 56 * 128 * 2
    assert array_bytes("f32", "3,5", "0,1:T(8,128)") == 8 * 128 * 4
    assert array_bytes("f32", "3,5") == 15 * 4


def network(x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ x) @ x


def test_bytes_agree_with_xla_where_nothing_loops_and_nothing_is_tiled():
    compiled = jax.jit(network).lower(jnp.zeros((256, 256))).compile()
    moved = sum(count_costs(compiled.as_text(), 1568, 1792).bytes.values())
    assert moved == pytest.approx(compiled.cost_analysis()["bytes accessed"], rel=0.01)


def test_a_compiled_loop_moves_as_much_as_all_its_passes():
    def repeated(x: jax.Array, times: int) -> jax.Array:
        return jax.lax.scan(lambda carry, _: (network(carry), None), x, None, length=times)[0]

    def moved(times: int) -> int:
        text = jax.jit(repeated, static_argnums=1).lower(jnp.zeros((256, 256)), times).compile().as_text()
        return sum(count_costs(text, 1568, 1792).bytes.values())

    each = (moved(9) - moved(4)) / 5
    assert each == pytest.approx(moved(4) / 4, rel=0.3)
