"""The official PyTorch programs beside this one: their own flow, masks and step, imported from a checkout of theirs.

Nothing of them is here. Modules that they import at the top, and that what is measured does not use (CuPy is for the
forward warp), are replaced by empty ones where they are not installed.
"""

import contextlib
import functools
import importlib
import importlib.util
import io
import math
import shutil
import sys
import time
import types
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from ml_collections import ConfigDict

from mgmae_jax.bench.measure import WARM_UP, Measurement
from mgmae_jax.bench.moving_clips import moving_batch
from mgmae_jax.data.cores import usable_cores
from mgmae_jax.errors import ConfigError, FileError, MgmaeError
from mgmae_jax.ops.imagenet import IMAGENET_MEAN, IMAGENET_STD
from mgmae_jax.runtime.device_info import peak_resident_gib
from mgmae_jax.train.masks import build_mask_step

MODELS = {"vit_s": "small", "vit_b": "base", "vit_l": "large", "vit_h": "huge", "vit_g": "giant"}
"""What the official programs call the sizes."""
NEEDED = ("torch", "timm", "einops")
"""The packages that they need for what is measured."""
_NOT_USED = ("cupy", "scipy", "tensorboardX")


class Layout(NamedTuple):
    """Where a program has what is measured: the names of its modules.

    Attributes:
      model: the models' constructors.
      engine: `train_one_epoch` with masks that come with the clips.
      masks: the generators of masks.
      raft: the flow's network; None if the program has none.
      motion: `train_one_epoch` with flow and masks by motion; None as before.
    """

    model: str
    engine: str
    masks: str
    raft: str | None = None
    motion: str | None = None

    @property
    def files(self) -> list[str]:
        """The files that a checkout has."""
        return [f"{module.replace('.', '/')}.py" for module in (*self, "utils") if module]


MGMAE = Layout(
    model="models.modeling_pretrain",
    engine="engine_for_pretraining",
    masks="dataset.masking_generator",
    raft="flow_utils.raft.core.raft",
    motion="engine_for_mgmae",
)
VIDEOMAE = Layout(model="modeling_pretrain", engine="engine_for_pretraining", masks="masking_generator")


def find_layout(folder: Path, *, flow: bool) -> Layout:
    """Which program a folder is a checkout of.

    Args:
      folder: the checkout.
      flow: whether it must have flow and masks by motion.

    Raises:
      FileError: it lacks a file.
      MgmaeError: a package that the programs need is not installed.
    """
    layout = VIDEOMAE if not flow and (folder / VIDEOMAE.files[0]).is_file() else MGMAE
    if missing := [name for name in layout.files if not (folder / name).is_file()]:
        program = "MGMAE" if flow else "MGMAE or VideoMAE"
        raise FileError(folder, f"has no {missing[0]}: give --official a checkout of {program}, the PyTorch program")
    if absent := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise MgmaeError(f"--official needs {' and '.join(absent)}: pip install 'mgmae-jax[interop]' timm einops")
    return layout


def check_official_model(config: ConfigDict) -> None:
    """Checks that the official programs have the model.

    Raises:
      ConfigError: they do not.
    """
    if config.model.name not in MODELS:
        raise ConfigError("model.name", config.model.name, f"one of {', '.join(MODELS)} for --official")
    if config.clip.size != 224:
        raise ConfigError("clip.size", config.clip.size, "224 for --official, whose models are for that size")


def measure_official_masks(folder: Path, config: ConfigDict, batches: Sequence[int], repeats: int) -> list[Measurement]:
    """Measures the official flow and masks, without the model; the clips are on the device before.

    Args:
      folder: a checkout of MGMAE.
      config: see configs/pretrain/common.py; of its masks and flow the ratio and the number of updates count.
      batches: clips of a call.
      repeats: timed calls of each.

    Raises:
      MgmaeError: see `find_layout`.
    """
    official = _Program(folder, find_layout(folder, flow=True))
    found = []
    for clips in batches:
        build = official.motion.get_build_mask_volume_func(
            official.raft_small(), official.device, _arguments(config, clips)
        )
        images = official.torch.as_tensor(_unit_clips(config, clips) * 2 - 1).to(official.device)
        draw = functools.partial(_base_maps, official, config, clips)
        times = [official.time_masks(build, images, draw) for _ in range(WARM_UP + repeats)]
        found.append(official.measurement("official, PyTorch", clips, times))
    return found


def measure_official_step(folder: Path, config: ConfigDict, repeats: int, *, motion: bool) -> list[Measurement]:
    """Measures the official training step: `train_one_epoch` with the same batch again and again.

    Args:
      folder: a checkout of MGMAE, or without `motion` of VideoMAE.
      config: see configs/pretrain/common.py; a step works on `train.batch_size` clips. Its model, the ratio of its
        masks and the number of updates of its flow count.
      repeats: timed steps.
      motion: masks by motion, from flow in the step; or tube masks.

    Raises:
      MgmaeError: see `find_layout` and `check_official_model`.
    """
    check_official_model(config)
    layout = find_layout(folder, flow=motion)
    official = _Program(folder, layout)
    clips, patch = config.train.batch_size, config.model.patch
    make = getattr(official.model, f"pretrain_videomae_{MODELS[config.model.name]}_patch{patch}_224")
    frames = {"all_frames": config.clip.frames} if layout is MGMAE else {}
    model = make(decoder_depth=config.model.decoder_depth, **frames).to(official.device)
    if layout is MGMAE and (official.on_gpu or shutil.which("g++")):  # as its command does
        model = official.torch.compile(model)
    batches = _TimedBatches(_step_batch(official, layout, config, motion), WARM_UP + repeats)
    arguments: dict[str, Any] = {
        "data_loader": batches,
        "optimizer": official.torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.05),
        "device": official.device,
        "epoch": 0,
        "start_steps": 0,
        "loss_scaler": official.utils.NativeScalerWithGradNormCount() if official.on_gpu else _NoScaler(),
        "max_norm": None,
        "patch_size": patch,
        "normlize_target": True,
    }
    if motion:
        arguments |= {"flow_model": official.raft_small(), "args": _arguments(config, clips)}
    with contextlib.redirect_stdout(io.StringIO()):  # its averages
        (official.motion if motion else official.engine).train_one_epoch(model, **arguments)
    name = f"official step, {'motion' if motion else 'tube'} masks, PyTorch"
    return [official.measurement(name, clips, batches.times)]


class _Program:
    """torch and the modules of an official program, in a process of its own.

    Attributes:
      device: where to measure.
      on_gpu: whether that is a GPU; on a CPU all is float32.
    """

    def __init__(self, folder: Path, layout: Layout) -> None:
        sys.path.insert(0, str(folder))
        warnings.simplefilter("ignore")  # of the age of what they call
        absent = [name for name in _NOT_USED if importlib.util.find_spec(name) is None]
        sys.modules |= {name: mock.MagicMock() for name in absent}
        # The package's own __init__ imports readers of videos, and PyTorch 2 has no torch._six.
        sys.modules["dataset"] = types.ModuleType("dataset")
        sys.modules["dataset"].__path__ = [str(folder / "dataset")]
        sys.modules["torch._six"] = types.ModuleType("torch._six")
        vars(sys.modules["torch._six"])["inf"] = math.inf
        self.torch: Any = importlib.import_module("torch")
        self.utils: Any = importlib.import_module("utils")
        modules: list[Any] = [None if name is None else importlib.import_module(name) for name in layout]
        self.model, self.engine, self.masks, self.raft, self.motion = modules
        for name in absent:
            del sys.modules[name]  # einops asks whether it is there

        self.torch.set_num_threads(usable_cores())
        self.torch.manual_seed(0)
        self.on_gpu: bool = self.torch.cuda.is_available()
        self.device: Any = self.torch.device("cuda" if self.on_gpu else "cpu")
        if self.on_gpu:
            self.torch.set_float32_matmul_precision("high")  # as its command does
        else:
            self.torch.cuda.synchronize = lambda *_: None

    def raft_small(self) -> Any:
        """The flow's network, as the program makes it; its parameters are random."""
        options = Namespace(small=True, mixed_precision=self.on_gpu, alternate_corr=False)
        return self.raft.RAFT(options).to(self.device).eval()

    def time_masks(self, build: Callable[..., Any], images: Any, draw: Callable[[], Any]) -> tuple[float, float]:
        """Seconds, and processor seconds, of flow and masks."""
        start, cpu_start = time.perf_counter(), time.process_time()
        with self.torch.no_grad():
            build(images, draw()[:, None].to(self.device))
        self.torch.cuda.synchronize()
        return time.perf_counter() - start, time.process_time() - cpu_start

    def measurement(self, name: str, clips: int, times: Sequence[tuple[float, float]]) -> Measurement:
        """The measurement of calls, of which the first are not counted."""
        seconds, cpu_seconds = zip(*times[WARM_UP:], strict=True)
        peak = self.torch.cuda.max_memory_allocated() / 2**30 if self.on_gpu else peak_resident_gib()
        return Measurement(name, clips, seconds, cpu_seconds, peak)


class _TimedBatches:
    """A data loader for `train_one_epoch`: the same batch again and again, and how long each step takes.

    Attributes:
      times: seconds, and processor seconds, from when a batch was given until the next was asked for.
    """

    def __init__(self, batch: tuple[Any, ...], count: int) -> None:
        self.batch, self.count = batch, count
        self.times: list[tuple[float, float]] = []

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for _ in range(self.count):
            start, cpu_start = time.perf_counter(), time.process_time()
            yield self.batch
            self.times.append((time.perf_counter() - start, time.process_time() - cpu_start))


class _NoScaler:
    """The program's loss scaler where there is nothing to scale: in float32."""

    def __call__(self, loss: Any, optimizer: Any, **_: Any) -> float:
        loss.backward()
        optimizer.step()
        return math.nan

    def state_dict(self) -> dict[str, float]:
        return {"scale": 1.0}


def _window(config: ConfigDict) -> tuple[int, int, int]:
    grid = build_mask_step(config).grid
    return grid.tubelets, grid.rows, grid.columns


def _arguments(config: ConfigDict, clips: int) -> Namespace:
    """Those of the official command for the paper's masks."""
    return Namespace(
        warp_type="backward", base_frame="middle", flow_iter=config.flow.iters, hole_filling="consist",
        window_size=_window(config), mask_ratio=config.mask.ratio, exposure_chance=False, topk_on_all=False,
        batch_size=clips, num_sample=1, input_size=config.clip.size, decoder_mask_type="none",
    )  # fmt: skip


def _unit_clips(config: ConfigDict, clips: int) -> np.ndarray:
    """The clips of the other rows, from 0 to 1, float32 [B, 3, T, H, W]."""
    batch = moving_batch(build_mask_step(config), clips, config.seed)["clip"]
    return np.ascontiguousarray(batch.transpose(0, 4, 1, 2, 3), np.float32) / 255


def _base_maps(official: _Program, config: ConfigDict, clips: int) -> Any:
    """Maps of base frames [B, H, W], as the program's data workers draw them."""
    generator = official.masks.MixGaussianInitialMaskingGenerator(
        _window(config), config.mask.ratio, config.model.patch
    )
    return official.torch.stack([generator() for _ in range(clips)])


def _step_batch(official: _Program, layout: Layout, config: ConfigDict, motion: bool) -> tuple[Any, ...]:
    """What the program's data loader gives."""
    clips = config.train.batch_size
    mean, std = (np.array(x, np.float32).reshape(3, 1, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
    images = official.torch.as_tensor((_unit_clips(config, clips) - mean) / std)
    if motion:
        return images, _base_maps(official, config, clips), official.torch.zeros(clips, 1)
    tubes = official.masks.TubeMaskingGenerator(_window(config), config.mask.ratio)
    masks = official.torch.as_tensor(np.stack([tubes().reshape(-1) for _ in range(clips)]))
    return (images, masks, 1 - masks) if layout is MGMAE else (images, masks)
