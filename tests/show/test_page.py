import base64
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgmae_jax.errors import FileError
from mgmae_jax.show.page import check_page_path, data_uri, json_block, page, table, text
from tests.show.html_pages import HOSTILE, Page, checked


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text_everywhere(name: str):
    body = (
        f'<p title="{text(name)}">{text(name)}</p>{table([name], [[name]], label=name)}{json_block("d", {name: name})}'
    )
    made = checked(page(name, body, styles=("page.css",)))
    assert [tag for tag, _ in made.elements if tag in ("img", "svg")] == []
    assert len(made.named("script")) == 1
    shown = name.encode("utf-8", "backslashreplace").decode()
    assert made.named("p") == [{"title": shown}]
    assert made.texts.count(shown) == 4  # the title, the paragraph, the head and the row of the table
    assert made.data == {"d": {name: name}}


@given(st.text())
def test_text_is_what_a_browser_reads(value: str):
    value = value.replace("\r", "").replace("\0", "")  # which HTML itself changes
    parsed = Page(f"<p>{text(value)}</p>")
    assert "".join(parsed.texts) == value.encode("utf-8", "backslashreplace").decode()


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=5))
def test_a_block_of_json_is_read_back_and_cannot_end(value):
    block = json_block("d", value)
    assert Page(block).data == {"d": value}
    assert set(re.findall(r"[<>&]", block.removeprefix('<script type="application/json" id="d">'))) == {"<", ">"}
    assert block.count("<") == 2
    assert block.isascii()


def test_a_number_that_json_cannot_say_is_an_error():
    with pytest.raises(ValueError, match="JSON"):
        json_block("d", float("nan"))


def test_the_policy_allows_the_page_its_own_style_and_script_only():
    made = page("a page", "<p>hello</p>", styles=("page.css", "explore.css"), scripts=("explore.js",))
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', made)
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", made, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "script-src 'none'" in page("a page", "", styles=("page.css",))


def test_styles_and_scripts_ask_for_nothing():
    made = page("a page", "", styles=("page.css", "explore.css", "report.css"), scripts=("explore.js",))
    assert not re.findall(r"https?:|//[a-z]|@import|url\(|fetch\(|XMLHttp|innerHTML|eval\(", made.split("<style>")[1])


def test_a_data_uri_holds_its_bytes():
    head, _, content = data_uri(b"\0\xff", "image/webp").partition(",")
    assert head == "data:image/webp;base64"
    assert base64.b64decode(content) == b"\0\xff"


def test_other_endings_are_refused(tmp_path):
    check_page_path(tmp_path / "a.HTML")
    with pytest.raises(FileError, match=r"page\.pdf: pages are written as \.html or \.htm; give --out"):
        check_page_path(tmp_path / "page.pdf")


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_at_least_aa(scheme: str):
    """Text 4.5 : 1, lines of curves 3 : 1 (WCAG 2.1, 1.4.3 and 1.4.11)."""
    made = page("", "", styles=("page.css", "report.css"))
    blocks = re.findall(r"(@media[^{]*\{\s*)?:root \{(.*?)\}", made, re.DOTALL)
    colours: dict[str, str] = {}
    for media, block in blocks:
        if not media or (scheme == "dark" and "dark" in media):
            colours |= dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6})", block))
    for name, least in {"ink": 4.5, "faint": 4.5, "focus": 4.5, **{f"c{i}": 3.0 for i in range(8)}}.items():
        for ground in ("paper", "panel"):
            bright, dark = sorted((_luminance(colours[name]), _luminance(colours[ground])), reverse=True)
            assert (bright + 0.05) / (dark + 0.05) >= least, (scheme, name, ground)
