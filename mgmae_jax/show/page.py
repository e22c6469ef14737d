"""Pages of HTML in one file, which open from disk, load nothing from anywhere and run no script but their own."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mgmae_jax.errors import FileError

SUFFIXES = (".html", ".htm")
_WEB = Path(__file__).with_name("web")


def page(title: str, body: str, *, styles: Sequence[str], scripts: Sequence[str] = ()) -> str:
    """A whole page.

    A policy in it forbids the browser every request, and every script and style but those given here, whatever the
    body says.

    Args:
      title: plain text.
      body: markup; what comes from outside went through `text` or `json_block`.
      styles: names of CSS files beside this module, in `web/`.
      scripts: names of scripts there.
    """
    style, script = _together(styles), _together(scripts)
    policy = [
        "default-src 'none'", "img-src data:", f"style-src '{_hash(style)}'",
        f"script-src '{_hash(script)}'" if scripts else "script-src 'none'", "base-uri 'none'", "form-action 'none'",
    ]  # fmt: skip
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{"; ".join(policy)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<meta name="generator" content="mgmae-jax">',
        f"<title>{text(title)}</title>",
        f"<style>{style}</style>",
        "</head>",
        "<body>",
        body,
        *([f"<script>{script}</script>"] if scripts else []),
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def text(value: object) -> str:
    """A value as text of a page or of an attribute between double quotes; names that are not UTF-8 become printable."""
    return html.escape(_printable(str(value)))


def json_block(name: str, value: Any) -> str:
    """Data for a script, which it finds by the id `name`; nothing in it can end the block.

    Raises:
      ValueError: a number is not finite, which JSON cannot say.
    """
    written = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII: U+2028 and U+2029 are escaped
    for sign in "<>&":
        written = written.replace(sign, f"\\u{ord(sign):04x}")
    return f'<script type="application/json" id="{text(name)}">{written}</script>'


def data_uri(content: bytes, media_type: str) -> str:
    """Bytes as an address that holds them."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def table(head: Sequence[str], rows: Sequence[Sequence[object]], *, label: str) -> str:
    """A table, its first column being the heads of its rows, in a part of the page that scrolls sideways.

    Args:
      head: plain text, one for each column.
      rows: plain text or numbers, as many in each.
      label: what the table shows, for those who cannot see it.
    """
    heads = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    lines = []
    for first, *rest in rows:
        cells = "".join(f"<td>{text(cell)}</td>" for cell in rest)
        lines.append(f'<tr><th scope="row">{text(first)}</th>{cells}</tr>')
    body = "\n".join(lines)
    return scrolling(f"<table><thead><tr>{heads}</tr></thead><tbody>\n{body}\n</tbody></table>", label)


def scrolling(markup: str, label: str) -> str:
    """Markup that may be wider than the screen: it scrolls within its own part, by the keyboard too."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{text(label)}">{markup}</div>'


def check_page_path(path: Path) -> None:
    """Checks that a page may have this name.

    Raises:
      FileError: it does not end in .html or .htm.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise FileError(path, f"pages are written as {' or '.join(SUFFIXES)}; give --out one of these extensions.")


def _together(names: Sequence[str]) -> str:
    return "\n".join((_WEB / name).read_text(encoding="utf-8") for name in names)


def _hash(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def _printable(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode()
