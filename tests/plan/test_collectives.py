import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from mgmae_jax.plan.collectives import Collective, collectives
from mgmae_jax.runtime.mesh import make_mesh


def test_collectives_of_a_compiled_program_are_counted_as_often_as_their_loop_runs():
    mesh = make_mesh(8)
    rows, whole = (NamedSharding(mesh, PartitionSpec(*spec)) for spec in (("fsdp",), ()))

    def program(x: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
        def body(carry: jax.Array, _: None) -> tuple[jax.Array, None]:
            gathered = jax.lax.with_sharding_constraint(carry, whole)
            return jax.lax.with_sharding_constraint(jnp.sin(gathered), rows), None

        return jax.lax.scan(body, x, None, length=5)[0], (w * w).sum()

    shapes = [jax.ShapeDtypeStruct((64, 16), jnp.float32, sharding=rows)] * 2
    found = {one.kind: one for one in collectives(jax.jit(program).lower(*shapes).compile().as_text())}
    assert found["all-gather"] == Collective("all-gather", 5, 5 * 64 * 16 * 4)
    assert found["all-reduce"] == Collective("all-reduce", 1, 4)


PAIRS = """\
HloModule jit_step

ENTRY %main.1 (p: f32[8]) -> f32[64] {
  %p = f32[8]{0} parameter(0)
  %ag = (f32[8]{0}, f32[64]{0}) all-gather-start(%p), channel_id=1, replica_groups=[1,8]<=[8], dimensions={0}
  %agd = f32[64]{0:T(128)} all-gather-done(%ag)
  %ar = f32[64]{0} all-reduce-start(%agd), channel_id=2, replica_groups={{0,1}}, to_apply=%add
  %ard = f32[64]{0} all-reduce-done(%ar)
  %rs = bf16[8]{0} reduce-scatter(%ard), channel_id=3, replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
  %rm = bf16[8]{0} reduce-scatter(%ard), channel_id=4, replica_groups=mesh['a'=2,'b'=4] {'a','b'}, dimensions={0}
  %cp = (f32[64]{0}, f32[64]{0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%ard), channel_id=5
  %cpd = f32[64]{0} collective-permute-done(%cp)
  ROOT %aa = f32[64]{0} all-to-all(%cpd), channel_id=6
}
"""


def test_a_pair_of_start_and_done_is_one_collective_and_sizes_are_those_of_whole_arrays():
    assert collectives(PAIRS) == [
        Collective("all-gather", 1, 256),
        Collective("all-reduce", 1, 256),
        Collective("all-to-all", 1, 256),
        Collective("collective-permute", 1, 256),
        Collective("reduce-scatter", 2, 8 * 2 * 4 + 8 * 2 * 8),
    ]


FUSIONS = """\
HloModule jit_step

%fused.1 (p: f32[8]) -> f32[64] {
  %all-gather.1 = f32[64]{0} all-gather(%p), channel_id=1
  ROOT %s = (f32[8]{0}, f32[64]{0}) custom-call(%all-gather.1), custom_call_target="AsyncCollectiveStart"
}

%async_collective_fusion.2 (p: f32[8]) -> f32[64] {
  ROOT %all-gather.2 = f32[64]{0} all-gather(%p), channel_id=1
}

%fused.3 (p: f32[8]) -> f32[64] {
  %all-gather.3 = f32[64]{0} all-gather(%p), channel_id=1
  ROOT %d = f32[64]{0} custom-call(%all-gather.3), custom_call_target="AsyncCollectiveDone"
}

%all-reduce-scatter.7 (p: f32[64]) -> f32[8] {
  %all-reduce.1 = (f32[64]{0}, /*index=1*/f32[32]{0}) all-reduce(%p), channel_id=1, to_apply=%add
}

%body (c: (s32[], f32[8])) -> (s32[], f32[8]) {
  %a = f32[64]{0} fusion(%c), kind=kCustom, calls=%fused.1
  %b = f32[64]{0} fusion(%a), kind=kCustom, calls=%async_collective_fusion.2
  %d = f32[64]{0} fusion(%b), kind=kCustom, calls=%fused.3
}

%condition (c: (s32[], f32[8])) -> pred[] {
  %limit = s32[]{:T(128)} constant(3)
  ROOT %lt = pred[] compare(%i, %limit), direction=LT
}

%never (p: f32[8]) -> f32[8] {
  %all-reduce.9 = f32[64]{0} all-reduce(%p), channel_id=9, to_apply=%add
}

ENTRY %main (p: f32[8]) -> f32[8] {
  %while.1 = (s32[], /*index=1*/f32[8]{0}) while(%t), condition=%condition, body=%body
  ROOT %r = f32[8]{0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.7
}
"""


def test_the_fusions_of_a_tpu_are_one_collective_in_each_pass_of_a_loop():
    assert collectives(FUSIONS) == [
        Collective("all-gather", 3, 3 * 256),
        Collective("reduce-scatter", 1, (64 + 32) * 4),
    ]


def test_a_program_without_collectives_has_none():
    text = jax.jit(lambda x: x + x).lower(jax.ShapeDtypeStruct((8,), jnp.float32)).compile().as_text()
    assert collectives(text) == []
