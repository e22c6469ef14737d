import jax
import jax.numpy as jnp
import pytest

from mgmae_jax.bench.measure import WARM_UP, Measurement, Program, compile_programs, measure

MIB = 2**20 // 4  # float32 values


def measured(function, carry, *args, clips=1, repeats=1):
    """The measurement of one program."""
    return measure(compile_programs([Program("row", function, args, clips)], carry), carry, repeats)[0]


def test_the_carry_goes_from_call_to_call():
    seen = []

    def step(carry, change):
        carry = carry + change
        jax.debug.callback(lambda value: seen.append(float(value)), carry[0])
        return carry, {"total": carry.sum()}

    result = measured(step, jnp.zeros(8), jnp.ones(1), clips=4, repeats=3)
    jax.effects_barrier()
    assert seen == list(range(1, WARM_UP + 3 + 1))
    assert len(result.seconds) == 3
    assert min(result.seconds) > 0
    assert len(result.cpu_seconds) == 3
    assert min(result.cpu_seconds) > 0
    assert result.compile_seconds > 0


def test_programs_take_turns_with_one_carry():
    seen = []

    def step(carry, change):
        jax.debug.callback(lambda value: seen.append(float(value)), carry[0])
        return carry + change, carry.sum()

    carry = jnp.zeros(8)
    programs = [Program(name, step, (jnp.full(1, change),), 1) for name, change in (("one", 1.0), ("ten", 10.0))]
    results = measure(compile_programs(programs, carry), carry, 1)
    jax.effects_barrier()
    assert [one.name for one in results] == ["one", "ten"]
    assert seen == [0, 1, 11, 12, 22, 23]
    assert results[0].peak_gib <= results[1].peak_gib


def test_the_donated_carry_is_planned_once():
    result = measured(lambda carry, x: (carry + x, x), jnp.zeros(8 * MIB), jnp.ones(1))
    assert 8 / 1024 <= result.program_gib < 9 / 1024
    assert result.peak_gib > result.program_gib


def test_a_program_without_carry():
    result = measured(lambda carry, x: (carry, x @ x), (), jnp.ones((8, 8)))
    assert result.flops == 2 * 8**3


def test_quantiles_are_milliseconds_a_clip():
    one = Measurement("row", 2, (0.5, 0.1, 0.2, 0.3, 0.4), (0.1,), 0.0)
    assert one.median == 0.3
    expected = {"min": 50, "q1": 100, "median": 150, "q3": 200, "max": 250}
    assert one.quantiles_ms_per_clip() == pytest.approx(expected)
