"""`mgmae bench --official` on a checkout with the files of the official programs, but stand-ins for what is in them."""

import sys
from pathlib import Path

import pytest

from mgmae_jax.bench import official
from mgmae_jax.bench.masking import with_preset
from mgmae_jax.bench.measure import WARM_UP
from mgmae_jax.bench.official import MGMAE, VIDEOMAE, find_layout, measure_official_masks, measure_official_step
from mgmae_jax.commands.bench_config import load_bench_config
from mgmae_jax.errors import ConfigError, FileError, MgmaeError

MODEL = """
import torch

class Model(torch.nn.Module):
    def __init__(self, decoder_depth, **more):
        super().__init__()
        assert decoder_depth == 1 and more == MORE, (decoder_depth, more)
        self.layer = torch.nn.Linear(3, 1)

    def forward(self, images, *masks):
        assert images.shape == (2, 3, 4, 224, 224) and images.dtype == torch.float32
        assert [mask.shape for mask in masks] == [(2, 392)] * len(masks)
        return self.layer(images.mean((2, 3, 4)))

def pretrain_videomae_small_patch16_224(**options):
    return Model(**options)
"""
ENGINE = """
import torch

def train_one_epoch(model, data_loader, optimizer, device, epoch, loss_scaler, **rest):
    assert rest["patch_size"] == 16 and rest["normlize_target"] and rest["start_steps"] == 0 and len(data_loader)
    print("what the program says")
    for images, *masks in data_loader:
        loss = model(images, *masks).square().sum()
        optimizer.zero_grad()
        loss_scaler(loss, optimizer, clip_grad=None, parameters=model.parameters(), create_graph=False)
        assert loss_scaler.state_dict()["scale"] == 1
        torch.cuda.synchronize()
"""
MOTION = """
import cupy
import torch

def train_one_epoch(model, flow_model, data_loader, **rest):
    for images, base_maps, _ in data_loader:
        assert base_maps.shape == (2, 224, 224)
        flow_model(images[:, :, 0], images[:, :, 1])

def get_build_mask_volume_func(flow_model, device, args):
    assert args.window_size == (2, 14, 14) and args.flow_iter == 6 and args.mask_ratio == 0.9

    def build(images, base_map):
        assert not torch.is_grad_enabled() and -1 <= images.min() < 0 < images.max() <= 1
        assert base_map.shape == (len(images), 1, 224, 224)
        return flow_model(images[:, :, 0], images[:, :, 1]) > base_map

    return build
"""
MASKS = """
import numpy as np
import torch

class TubeMaskingGenerator:
    def __init__(self, window, ratio):
        self.window = window

    def __call__(self):
        return np.ones(np.prod(self.window))

class MixGaussianInitialMaskingGenerator:
    def __init__(self, window, ratio, patch):
        self.shape = window[1] * patch, window[2] * patch

    def __call__(self):
        return torch.zeros(self.shape)
"""
RAFT = """
import torch

class RAFT(torch.nn.Module):
    def __init__(self, args):
        super().__init__()
        assert args.small and not args.mixed_precision

    def forward(self, one, two):
        return (one - two).mean(1, keepdim=True)
"""
CONTENT = {
    MGMAE: (MODEL.replace("MORE", "{'all_frames': 4}"), ENGINE, MASKS, RAFT, MOTION, ""),
    VIDEOMAE: (MODEL.replace("MORE", "{}"), ENGINE, MASKS, ""),
}


def checkout(folder: Path, layout: official.Layout) -> Path:
    for name, text in zip(layout.files, CONTENT[layout], strict=True):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    if layout is MGMAE:
        (folder / "dataset" / "__init__.py").write_text("raise ImportError('a reader of videos')")
    return folder


@pytest.fixture
def config():
    config = load_bench_config(None, ["--config.model.name=vit_s", "--config.clip.frames=4"], 2, "cpu")
    config.model.decoder_depth = 1
    return with_preset(config, "paper")


@pytest.fixture
def with_torch(monkeypatch):
    """Undoes what measuring changes in a process of its own; the model is not compiled."""
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    for name in ("timm", "einops"):
        pytest.importorskip(name, reason=f"needs {name}")
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "synchronize", torch.cuda.synchronize)
    monkeypatch.setattr(official.shutil, "which", lambda _: None)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_flow_and_masks_of_the_program_are_timed(tmp_path, config, with_torch):
    found = measure_official_masks(checkout(tmp_path, MGMAE), config, (1, 2), 3)
    assert [(one.name, one.clips, len(one.seconds)) for one in found] == [
        ("official, PyTorch", 1, 3),
        ("official, PyTorch", 2, 3),
    ]
    assert min(found[0].seconds) > 0
    assert found[0].flops is None
    assert found[0].peak_gib > 0


@pytest.mark.parametrize(("layout", "motion"), [(MGMAE, False), (MGMAE, True), (VIDEOMAE, False)])
def test_the_step_of_the_program_is_timed(tmp_path, config, with_torch, capsys, layout, motion):
    (one,) = measure_official_step(checkout(tmp_path, layout), config, 3, motion=motion)
    assert one.name == f"official step, {'motion' if motion else 'tube'} masks, PyTorch"
    assert (one.clips, len(one.seconds), len(one.cpu_seconds)) == (2, 3, 3)
    assert WARM_UP > 0  # steps that are not counted
    assert capsys.readouterr().out == ""


def test_a_program_that_lacks_a_file(tmp_path):
    (tmp_path / "modeling_pretrain.py").write_text("")
    with pytest.raises(
        FileError, match=r"has no engine_for_pretraining.py: give --official a checkout of MGMAE or Vid"
    ):
        find_layout(tmp_path, flow=False)
    with pytest.raises(
        FileError, match=r"has no models/modeling_pretrain.py: give --official a checkout of MGMAE, the"
    ):
        find_layout(tmp_path, flow=True)


def test_packages_that_are_missing(tmp_path, monkeypatch):
    checkout(tmp_path, VIDEOMAE)
    monkeypatch.setattr(official, "NEEDED", ("numpy", "no_torch", "no_timm"))
    with pytest.raises(MgmaeError, match=r"needs no_torch and no_timm: pip install 'mgmae-jax\[interop\]' timm einops"):
        find_layout(tmp_path, flow=False)


@pytest.mark.parametrize(("field", "value"), [("model.name", "vit_t"), ("clip.size", 112)])
def test_what_the_programs_do_not_have(tmp_path, config, field, value):
    section, _, name = field.partition(".")
    config[section][name] = value
    with pytest.raises(ConfigError, match=field):
        measure_official_step(tmp_path, config, 1, motion=False)
