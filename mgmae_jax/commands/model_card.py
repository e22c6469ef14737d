"""The README.md of a model on the Hub: what its run's config and metrics say."""

import json
from pathlib import Path
from typing import Any

from mgmae_jax.errors import MgmaeError
from mgmae_jax.evaluate.report import REPORT_FILE
from mgmae_jax.interop.export import hidden_tokens, parts_of
from mgmae_jax.interop.hub import is_on_hub
from mgmae_jax.runtime.config_checks import kind_of
from mgmae_jax.runtime.metrics import METRICS_FILE, read_metrics
from mgmae_jax.runtime.weights import Weights

_SHOWN = 12  # classes named
_USE = {
    True: """```python
import torch
from transformers import VideoMAEForVideoClassification, VideoMAEImageProcessor

processor = VideoMAEImageProcessor.from_pretrained("{name}")
model = VideoMAEForVideoClassification.from_pretrained("{name}").eval()
inputs = processor(frames, return_tensors="pt")  # {frames} frames, each [height, width, 3], uint8
with torch.no_grad():
    label = model(**inputs).logits.argmax(-1).item()
print(model.config.id2label[label])
```""",
    False: """```python
from transformers import VideoMAEModel

model = VideoMAEModel.from_pretrained("{name}")  # the encoder; {decoder}
```""",
}


def model_card(weights: Weights, name: str, workdir: Path | None) -> str:
    """The text of a model's README.md, in Markdown with the Hub's header.

    Args:
      weights: the model.
      name: what it is called.
      workdir: its run's folder, for metrics and reports; None for a model of another program.
    """
    config = weights.config
    clip, model = config.clip, config.model
    classifier = weights.classes is not None
    task = "video-classification" if classifier else "feature-extraction"
    kind = "a video classifier" if classifier else "a masked autoencoder of videos"
    place = str(weights.source.get("from", ""))
    origin = f" from {place}" if is_on_hub(place) else ""  # a local path is nobody else's business
    decoder = "VideoMAEForPreTraining has the decoder too" if parts_of(weights).decoder_depth else "there is no decoder"
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {task}",
        "tags: [video, videomae, mgmae]",
        "---",
        "",
        f"# {name}",
        "",
        f"{kind.capitalize()}: {model.name}, patches of {model.patch}x{model.patch} pixels, tubelets of "
        f"{model.tubelet} frames, clips of {clip.frames} frames of {clip.size}x{clip.size}. Written by `mgmae convert` "
        f"of mgmae-jax{origin}.",
        "",
        "## Use",
        "",
        _USE[classifier].format(name=name, frames=clip.frames, decoder=decoder),
        "",
    ]
    if classifier and weights.classes:
        more = f" and {len(weights.classes) - _SHOWN} more" if len(weights.classes) > _SHOWN else ""
        lines += ["## Classes", "", f"{len(weights.classes)}: {', '.join(weights.classes[:_SHOWN])}{more}.", ""]
    if remark := hidden_tokens(weights):
        lines += [remark, ""]
    if workdir is not None and (workdir / METRICS_FILE).is_file():  # it was trained here, not converted
        lines += ["## Training", "", *_table(_training(config)), "", *_results(workdir)]
    lines += [
        "## Licence",
        "",
        "The licence of the weights is not stated here: it follows from that of the videos and of the weights that "
        "training began with.",
    ]
    return "\n".join(lines) + "\n"


def _training(config: Any) -> dict[str, object]:
    fields: dict[str, object] = {
        "videos": _public(config.data.path) or "procedural (motion_shapes)",
        "epochs": config.train.epochs,
        "batch size": config.train.batch_size * config.data.views,
        "learning rate, for a batch of 256": config.optim.lr,
        "weight decay": config.optim.weight_decay,
        "seed": config.seed,
    }
    if kind_of(config) == "pretrain":
        fields |= {"masks": f"{config.mask.strategy}, ratio {config.mask.ratio}", "flow": config.flow.source}
    else:
        fields |= {"began with": _public(config.init) or "random weights", "layer decay": config.optim.layer_decay}
    return fields


def _public(place: str) -> str:
    """What a place is called to others: the last part of a local path, or the whole of one on the Hub."""
    return place if is_on_hub(place) else Path(place).name


def _table(fields: dict[str, object]) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in fields.items())]


def _results(workdir: Path) -> list[str]:
    """What was measured: the reports of `mgmae evaluate`, and the loss at the end."""
    rows: dict[str, object] = {}
    for path in sorted((workdir / "evaluation").glob(f"*/{REPORT_FILE}")):
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            if "top1" in report:
                views = f"{report['about']['config']['eval']['clips']}x{report['about']['config']['eval']['crops']}"
                shares = f"{report['top1']['value']:.2%} / {report['top5']['value']:.2%}"
                rows[f"top-1 / top-5, step {path.parent.name}, {report['videos']} videos, {views} views"] = shares
        except (OSError, ValueError, KeyError, TypeError):  # someone else's file of that name
            continue
    for folder, name, shown in (("accuracy", "top1", "top-1 in training"), ("", "loss", "training loss")):
        last = _last(workdir / folder / METRICS_FILE)
        if name in last:
            value = f"{last[name]:.2%}" if name == "top1" else f"{last[name]:.4f}"
            rows[f"{shown}, step {last['step']}"] = value
    return ["## Results", "", *_table(rows), ""] if rows else []


def _last(metrics: Path) -> dict[str, float]:
    """The last line of a run's metrics; empty if there is none."""
    try:
        return read_metrics(metrics)[-1] if metrics.is_file() else {}
    except (MgmaeError, IndexError):
        return {}
