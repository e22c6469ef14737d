"""Small runs of `mgmae finetune` on labelled videos."""

from pathlib import Path

from tests.data.conftest import write_video

CLASSES = ("jump", "run", "walk")
STEPS = 9
# The worked example's config, made small: 9 steps of 4 videos, 2 clips of each, with everything that is random in it,
# and positions interpolated from clips of 8 frames.
SMALL = {
    "clip.frames": 4,
    "clip.size": 32,
    "data.views": 2,
    "data.workers": 0,
    "eval.every": 1,
    "eval.clips_per_device": 4,
    "augment.rand": "rand-m7-n4-mstd0.5-inc1",
    "augment.erase": 0.5,
    "mix.mixup": 0.8,
    "mix.cutmix": 1.0,
    "model.patch": 16,
    "model.classes": 3,
    "model.trained_frames": 8,
    "model.trained_size": 32,
    "model.drop_path": 0.2,
    "model.head_dropout": 0.2,
    "train.batch_size": 4,
    "train.epochs": 3,
    "train.ema_decay": 0.9,
    "train.log_every": 1,
    "optim.warmup_epochs": 1,
    "checkpoint.every": 2,
}


def write_labelled(root: Path, videos: int) -> Path:
    """Writes videos into a folder for each of CLASSES, in turn."""
    for i in range(videos):
        write_video(root / CLASSES[i % 3] / f"{i:02}.mp4", 12 + i)
    return root


def command(workdir: Path, config: str = "finetune/motion_shapes", **changes: object) -> list[str]:
    """`mgmae finetune` with SMALL and `changes`, whose names have "__" for the dot."""
    fields = SMALL | {name.replace("__", "."): value for name, value in changes.items()}
    overrides = [f"--config.{name}={value}" for name, value in fields.items()]
    return ["finetune", "--config", config, "--workdir", str(workdir), *overrides]
