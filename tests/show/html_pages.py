"""Reading the pages that `mgmae report` and `mgmae explore` write, and names that try to be markup."""

import json
import os
from html.parser import HTMLParser

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style><!--",
    "a\u2028b\u2029c",
    os.fsdecode(b"caf\xe9"),
)
_VOID = {"meta", "img", "input", "br", "link"}
_SHAPES = {"line", "polyline", "circle"}  # of SVG, which close themselves


class Page(HTMLParser):
    """The elements of a page.

    Attributes:
      elements: name and attributes of each, in order.
      texts: what is read, piece by piece.
      data: the content of the blocks of JSON by their ids.
    """

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.data: dict[str, object] = {}
        self._open: list[str] = []
        self._block: str | None = None
        self.feed(markup)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice: {attrs}"
        self.elements.append((tag, dict(attrs)))
        self._block = dict(attrs).get("id") if tag == "script" else None
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in _SHAPES, tag
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, tag

    def handle_data(self, data):
        if self._open and self._open[-1] in ("script", "style"):
            if self._block is not None:
                self.data[self._block] = json.loads(data)
            return
        self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def checked(markup: str) -> Page:
    """A page that needs nothing but itself: no addresses but data and its own sections, no handlers, labels for all."""
    found = Page(markup)
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    inside_label = markup.count("<label")
    for tag, attributes in found.elements:
        assert tag not in ("iframe", "object", "embed", "base", "link"), tag
        assert not [name for name in attributes if name.startswith("on") or name == "style"], attributes
        for name in ("src", "href", "action", "srcset", "xlink:href"):
            address = attributes.get(name) or "#"
            assert address.startswith(("data:image/", "#")), address
            assert not address.startswith("#") or address == "#" or address[1:] in ids
        if tag == "img":
            assert attributes["alt"]
        for reference in (attributes.get("aria-labelledby") or "").split():
            assert reference in ids
    assert len(found.named("input")) <= inside_label
    (policy,) = [one["content"] for one in found.named("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    assert "http" not in policy
    (html,) = found.named("html")
    assert html["lang"] == "en"
    return found
