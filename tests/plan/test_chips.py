import pytest

from mgmae_jax.errors import MgmaeError
from mgmae_jax.plan.chips import CHIPS, parse_machines


@pytest.mark.parametrize(
    ("text", "chip", "chips", "topology", "slices"),
    [
        ("v5e:8x8", "v5e", 64, "v5e:8x8", 1),
        ("v5e:16x16:2", "v5e", 512, "v5e:16x16", 2),
        ("v5p:4x4x8", "v5p", 128, "v5p:4x4x8", 1),
        ("v4:2x2x1", "v4", 4, "v4:2x2x1", 1),
        ("h200:8", "h200", 8, "", 1),
        ("a100-40:16", "a100-40", 16, "", 1),
    ],
)
def test_names_of_machines_are_read(text: str, chip: str, chips: int, topology: str, slices: int):
    machines = parse_machines(text)
    assert (machines.chip.name, machines.chips, machines.topology, machines.slices) == (chip, chips, topology, slices)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("v9:8x8", r"--on 'v9:8x8': there is no chip 'v9': give one of v4, v5e, "),
        ("h200", r"--on 'h200': give the number of GPUs, as h200:8\."),
        ("h200:0", r"--on 'h200:0': give the number of GPUs, as h200:8\."),
        ("h200:2x4", r"--on 'h200:2x4': give the number of GPUs"),
        ("v5e:64", r"--on 'v5e:64': give a slice's chips along each axis, as v5e:8x8, or 2 slices: v5e:8x8:2\."),
        ("v5e:4x4x4", r"as v5e:8x8"),
        ("v5p:8x8", r"as v5p:4x4x8"),
        ("v5e:8x8:0", r"--on 'v5e:8x8:0': "),
        ("v5e:0x8", r"--on 'v5e:0x8': "),
    ],
)
def test_what_is_not_a_name_is_refused_with_one_that_is(text: str, told: str):
    with pytest.raises(MgmaeError, match=told):
        parse_machines(text)


def test_every_chip_has_a_source_and_numbers_of_the_right_size():
    for name, chip in CHIPS.items():
        assert (chip.name, bool(chip.source)) == (name, True)
        assert 15 < chip.hbm_gib < 200
        assert 100 < chip.tflops < 1000
        assert 800 < chip.bandwidth < 5000
