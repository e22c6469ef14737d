import importlib.util
from collections.abc import Callable

import jax
import pytest
from ml_collections import ConfigDict

from mgmae_jax.errors import MgmaeError
from mgmae_jax.plan import topology
from mgmae_jax.plan.chips import parse_machines
from mgmae_jax.plan.compile import compile_step, needed_bytes
from mgmae_jax.plan.memory import GIB, Memory, advice
from mgmae_jax.plan.topology import plan_on_cpu, tpu_devices
from mgmae_jax.plan.work import build_work
from mgmae_jax.runtime.mesh import make_mesh

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: pip install 'mgmae-jax[plan]'"
)


def test_a_step_is_compiled_for_cpu_devices_with_its_parameters_split(small: Callable[..., ConfigDict]):
    work = build_work(small(), 1000)
    whole, split = (compile_step(work, make_mesh(fsdp)) for fsdp in (1, 8))
    assert whole.fits
    assert split.fits
    assert split.memory.parameters < whole.memory.parameters / 3
    assert whole.memory.padding == split.memory.padding == 20  # the state's three counters and the key
    assert whole.memory.temporaries > 0
    assert "all-gather" not in {one.kind for one in whole.collectives}
    gathered = next(one for one in split.collectives if one.kind == "all-gather")
    assert gathered.bytes >= whole.memory.parameters - split.memory.parameters


@pytest.mark.parametrize(
    ("message", "size"),
    [
        ("the total memory required for HLO temporaries (26.00G) exceeds available HBM (15.75G)", 26 * GIB),
        ("Ran out of memory in memory space hbm. Used 18.04G of 15.75G hbm. Exceeded by 2.29G", int(18.04 * GIB)),
        ("(512.5M) exceeds available HBM (15.75G)", int(512.5 * 2**20)),
        ("UNIMPLEMENTED: Stable sorting of more than 2^31-1 elements is not implemented", None),
    ],
)
def test_what_a_program_needs_is_read_from_its_refusal(message: str, size: int | None):
    assert needed_bytes(message) == size


def test_an_error_that_is_not_about_memory_is_not_taken_for_one(
    small: Callable[..., ConfigDict], monkeypatch: pytest.MonkeyPatch
):
    def fails(*_: object, **__: object) -> None:
        raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: no such thing")

    work = build_work(small(), 1000)
    monkeypatch.setattr(jax.stages.Lowered, "compile", fails)
    with pytest.raises(jax.errors.JaxRuntimeError, match="UNIMPLEMENTED"):
        compile_step(work, make_mesh(1))


def test_a_refused_program_has_its_temporaries_from_the_refusal(
    small: Callable[..., ConfigDict], monkeypatch: pytest.MonkeyPatch
):
    def fails(*_: object, **__: object) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: temporaries (26.00G) exceeds available HBM (15.75G)")

    work = build_work(small(), 1000)
    monkeypatch.setattr(jax.stages.Lowered, "compile", fails)
    compiled = compile_step(work, make_mesh(1))
    assert not compiled.fits
    assert compiled.memory.total == 26 * GIB
    assert compiled.collectives is None


def test_advice_names_fields_their_values_and_what_each_gives(small: Callable[..., ConfigDict]):
    memory = Memory(parameters=4 * GIB, optimiser=8 * GIB, average=0, frozen=0, batch=0)
    lines = advice(memory, 15.75, small("train.batch_size=64", "train.accumulate=2"), chips=8, fsdp=1)
    assert lines == [
        "mesh.fsdp (now 1): over all 8 chips, the state takes 1.50 GiB of its 12.00",
        "train.accumulate=4 (now 2): 2 clips a chip at once instead of 4",
        "model.remat=True: activations of one block at a time, for about a third more operations",
        "train.batch_size or data.views, which make 8 clips a chip, or more chips",
    ]
    lines = advice(memory, 15.75, small("train.batch_size=8", "model.remat=True"), chips=8, fsdp=8)
    assert lines == ["chips with more memory: the batch and the state are as small as they can be"]


@pytest.mark.parametrize(
    ("clips", "parts", "told"),
    [
        (12, 4, "train.accumulate=6 (now 4): 2 clips a chip at once instead of 3"),
        (6, 2, "train.accumulate=3 (now 2): 2 clips a chip at once instead of 3"),
        (9, 2, "train.accumulate=3 (now 2): 3 clips a chip at once instead of 4.5"),
        (7, 1, "train.accumulate=7 (now 1): 1 clips a chip at once instead of 7"),
    ],
)
def test_the_parts_that_are_advised_divide_the_clips_of_a_chip(small, clips: int, parts: int, told: str):
    memory = Memory(parameters=GIB, optimiser=GIB, average=0, frozen=0, batch=0)
    config = small(f"train.batch_size={2 * clips}", f"train.accumulate={parts}")
    config.data.views = 1
    assert told in advice(memory, 15.75, config, chips=2, fsdp=2)
    config.train.accumulate = clips
    assert not any("accumulate" in line for line in advice(memory, 15.75, config, chips=2, fsdp=2))


def test_a_missing_libtpu_is_a_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MgmaeError, match=r"libtpu, which is not installed: pip install 'mgmae-jax\[plan\]'$"):
        tpu_devices(parse_machines("v5e:2x2"))


@needs_libtpu
@pytest.mark.slow
def test_a_step_is_compiled_for_a_tpu_slice_that_is_not_here(small: Callable[..., ConfigDict]):
    plan_on_cpu()
    devices = tpu_devices(parse_machines("v5e:2x2"))
    assert len(devices) == 4
    compiled = compile_step(build_work(small(), 1000), make_mesh(4, devices))
    assert compiled.fits
    assert 0 < compiled.memory.total < GIB
    assert {one.kind for one in compiled.collectives} >= {"all-gather"}
    assert compiled.bytes_accessed > 0


@needs_libtpu
def test_a_slice_that_libtpu_does_not_know_is_named():
    plan_on_cpu()
    with pytest.raises(MgmaeError, match=r"--on 'v5e:7x9': libtpu knows no such slice \(INVALID_ARGUMENT"):
        tpu_devices(parse_machines("v5e:7x9"))


@needs_libtpu
def test_slices_and_megacores_are_devices_as_jax_has_them():
    plan_on_cpu()
    assert len(tpu_devices(parse_machines("v4:2x2x1"))) == 4
    assert {device.slice_index for device in tpu_devices(parse_machines("v5e:2x2:2"))} == {0, 1}
