"""The mask page: a video that plays under several strategies at once, in one file.

Its script, `web/explore.js`, draws what this module packs: frames as WebP, a bit for each token and mask, and flow at
the tokens' centres in eight bits.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mgmae_jax.errors import FileError
from mgmae_jax.show.images import image_uri
from mgmae_jax.show.page import json_block, page, scrolling, text

MOST_BYTES = 8_000_000
"""The size that a page stays under."""
MOST_STRATEGIES, MOST_RATIOS = 8, 9
_QUALITIES = (85, 70, 50, 30)
_MOST_WIDTH = 448


@dataclasses.dataclass(frozen=True)
class ExploredClip:
    """A clip and its masks.

    Args:
      title: what it is, plain text.
      note: how the masks were made, plain text.
      frames: uint8 `[T, H, W, 3]`.
      tubelet: frames of a token.
      strategies: names.
      ratios: shares of the tokens that are hidden.
      visible: bool `[ratios, strategies, t, h, w]`, by token.
      flow: float32 `[2, T - 1, h, w, 2]`, at the tokens' centres, x and y in pixels: from each frame to the next, and
        from each to the one before (pair p is frames p and p + 1); None without flow.
    """

    title: str
    note: str
    frames: np.ndarray
    tubelet: int
    strategies: Sequence[str]
    ratios: Sequence[float]
    visible: np.ndarray
    flow: np.ndarray | None


def explore_page(clip: ExploredClip, path: Path) -> str:
    """The page of a clip, under `MOST_BYTES`; see `page.page`.

    Args:
      clip: what to show.
      path: where the page will be, for the error.

    Raises:
      FileError: it cannot be made as small.
    """
    for quality in _QUALITIES:
        made = _page(clip, quality)
        if len(made.encode()) < MOST_BYTES:
            return made
    reason = f"would be larger than {MOST_BYTES // 10**6} MB: give fewer frames (--config.clip.frames) or ratios"
    raise FileError(path, reason)


def agreement(visible: np.ndarray) -> np.ndarray:
    """Share of the visible tokens that two masks of equally many have in common.

    Args:
      visible: bool `[masks, ...]`.

    Returns:
      float64 `[masks, masks]`, from 0 to 1; 1 on the diagonal.
    """
    flat = visible.reshape(len(visible), -1).astype(np.float64)
    return flat @ flat.T / flat.sum(axis=1, keepdims=True)


def packed_flow(flow: np.ndarray) -> tuple[float, np.ndarray]:
    """Flow in eight bits: the pixels of one step, and int8 values within -127..127."""
    unit = max(float(np.abs(flow).max()), 1e-6) / 127
    return unit, np.round(flow / unit).astype(np.int8)


def _page(clip: ExploredClip, quality: int) -> str:
    height, width = clip.frames.shape[1:3]
    rows, columns = clip.visible.shape[-2:]
    data = {
        "width": width,
        "height": height,
        "tubelet": clip.tubelet,
        "rows": rows,
        "columns": columns,
        "strategies": list(clip.strategies),
        "ratios": list(map(float, clip.ratios)),
        "frames": [image_uri(Image.fromarray(frame), _MOST_WIDTH, quality) for frame in clip.frames],
        "masks": [[_base64(np.packbits(mask)) for mask in masks] for masks in clip.visible],
        "flow": None,
    }
    if clip.flow is not None:
        unit, values = packed_flow(clip.flow)
        data["flow"] = {"unit": unit, "forwards": _base64(values[0]), "backwards": _base64(values[1])}
    body = [
        f"<header><h1>{text(clip.title)}</h1>",
        f'<p class="note">{text(clip.note)}</p>',
        "<noscript><p>The clip plays by a script, which is part of this file; it is switched off here.</p></noscript>",
        "</header>",
        "<main>",
        _controls(clip),
        f'<div id="panels" class="panels">{"".join(_panel(i, name) for i, name in enumerate(clip.strategies))}</div>',
        '<p id="token" class="token" role="status"></p>',
        "<h2>Agreement</h2>",
        '<p class="note">The share of the visible tokens of the row that the column shows too, in per cent. Two masks '
        "drawn at random have 100% minus the mask ratio in common.</p>",
        *(_matrix(clip, i) for i in range(len(clip.ratios))),
        _keys(clip),
        "</main>",
        json_block("clip", data),
    ]
    return page(clip.title, "\n".join(body), styles=("page.css", "explore.css"), scripts=("explore.js",))


def _controls(clip: ExploredClip) -> str:
    last = len(clip.frames) - 1
    middle = min(range(len(clip.ratios)), key=lambda i: abs(clip.ratios[i] - 0.9))
    ratios = "".join(
        f'<label><input type="radio" name="ratio" value="{i}"{" checked" if i == middle else ""}> {ratio:g}</label>'
        for i, ratio in enumerate(clip.ratios)
    )
    flow = "" if clip.flow is None else '<label><input type="checkbox" id="arrows"> flow</label>'
    return (
        '<form class="controls" aria-label="Controls">'
        '<button type="button" id="play">Play</button>'
        f'<label class="time">frame <output id="number" for="frame">0</output> of {last}'
        f'<input type="range" id="frame" min="0" max="{last}" value="0" step="1"></label>'
        f"<fieldset><legend>mask ratio</legend>{ratios}</fieldset>"
        '<fieldset><legend>show</legend><label><input type="checkbox" id="masks" checked> masks</label>'
        f"{flow}</fieldset></form>"
    )


def _panel(number: int, name: str) -> str:
    return (
        f'<figure><canvas tabindex="0" role="img" data-strategy="{number}" '
        f'aria-label="The clip, masked by {text(name)}" aria-describedby="seen{number}"></canvas>'
        f'<figcaption><b>{text(name)}</b> <span id="seen{number}"></span></figcaption></figure>'
    )


def _matrix(clip: ExploredClip, number: int) -> str:
    shares = agreement(clip.visible[number])
    heads = "".join(f'<th scope="col">{text(name)}</th>' for name in clip.strategies)
    rows = [
        f'<tr><th scope="row">{text(name)}</th>'
        + "".join(f'<td class="share{round(10 * share)}">{100 * share:.0f}</td>' for share in shares[i])
        + "</tr>"
        for i, name in enumerate(clip.strategies)
    ]
    caption = f"Agreement at mask ratio {clip.ratios[number]:g}, %"
    table = (
        f"<table><caption>{caption}</caption><thead><tr><td></td>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    return f'<div class="matrix" data-ratio="{number}">{scrolling(table, caption)}</div>'


def _keys(clip: ExploredClip) -> str:
    keys = {
        "Space": "play, pause",
        "← →": "the frame before, after",
        "↑ ↓": "the next higher, lower ratio",
        f"1 … {len(clip.ratios)}": "the ratio of this number",
        "M": "masks on, off",
        "Shift + arrows": "move the marked token",
        "Esc": "mark no token",
    }
    if clip.flow is not None:
        keys["F"] = "flow on, off"
    rows = "".join(f"<tr><th scope='row'><kbd>{text(key)}</kbd></th><td>{what}</td></tr>" for key, what in keys.items())
    # Speech input types letters, and each would be a command (WCAG 2.1.4).
    switch = '<label><input type="checkbox" id="characters" checked> letters and digits are keys</label>'
    return f"<details><summary>Keys</summary>{switch}<table>{rows}</table></details>"


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()
