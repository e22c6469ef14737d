"""The pages in a real browser, where Playwright and Chromium are installed (the extra `browser`)."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")

from playwright.sync_api import Error

from mgmae_jax.show.explore import explore_page
from mgmae_jax.show.run_report import report_page
from tests.show.browser import LAPTOP, PHONE, open_browser, picture, ready
from tests.show.html_pages import HOSTILE
from tests.show.test_explore import explored
from tests.show.test_run_report import run

pytestmark = pytest.mark.slow
AXE = Path(os.environ.get("AXE_CORE", "node_modules/axe-core/axe.min.js"))
"""The file of axe-core, which finds what people with disabilities cannot use."""


@pytest.fixture(scope="module")
def browser():
    try:
        with open_browser() as opened:
            yield opened
    except Error as error:
        if "Executable doesn't exist" in str(error):
            pytest.skip("needs Chromium: the system's, or `playwright install chromium`")
        raise


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    clip, name = explored(), "".join(HOSTILE)
    hostile = dataclasses.replace(clip, title=name, note=name, strategies=list(HOSTILE[:2]))
    made = {
        "explore": explore_page(clip, folder),
        "hostile_explore": explore_page(hostile, folder),
        "report": report_page([run("one", steps=60), run("two", config={"mask.ratio": "0.5"})]),
        "hostile_report": report_page([run(name, config={name: name}, about={name: name})]),
    }
    for page, markup in made.items():
        (folder / f"{page}.html").write_text(markup, encoding="utf-8")
    return folder


@pytest.fixture
def opened(browser, pages):
    """Opens pages; at the end, none of them has asked for anything, complained, or shown a dialog."""
    contexts, wrong = [], []

    def open_page(name: str, *, clock: bool = False, **options):
        context = browser.new_context(**(LAPTOP | options))
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("request", lambda request: asked(request.url))
        if clock:
            page.clock.install(time="2026-01-01")
        ready(page, pages / f"{name}.html")
        if clock:
            page.clock.pause_at("2027-01-01")  # from here on only the test moves it
        return page

    def asked(address: str) -> None:
        if not address.startswith("data:image/") and not (address.startswith("file:") and address.endswith(".html")):
            wrong.append(address)

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def shown(page) -> int:
    assert page.locator("#frame").input_value() == page.locator("#number").inner_text()
    return int(page.locator("#number").inner_text())


def pixels(page, strategy: int = 0) -> np.ndarray:
    """What a panel shows at the centre of each token: [rows, columns, 3]."""
    values = page.evaluate(
        """strategy => {
          const canvas = document.querySelectorAll('canvas')[strategy];
          const copy = new OffscreenCanvas(canvas.width, canvas.height);
          const pen = copy.getContext('2d', {willReadFrequently: true});
          pen.drawImage(canvas, 0, 0);
          const found = [];
          for (let row = 0; row < 3; row++) for (let column = 0; column < 4; column++) {
            const at = [(column + 0.5) / 4 * canvas.width, (row + 0.5) / 3 * canvas.height].map(Math.floor);
            found.push([...pen.getImageData(...at, 1, 1).data].slice(0, 3));
          }
          return found;
        }""",
        strategy,
    )
    return np.array(values).reshape(3, 4, 3)


def test_the_slider_and_the_arrow_keys_choose_the_frame(opened):
    page = opened("explore")
    assert shown(page) == 0
    page.locator("#frame").fill("3")
    assert shown(page) == 3
    page.locator("#frame").press("ArrowRight")  # the slider's own key counts once
    assert shown(page) == 4
    page.locator("canvas").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert shown(page) == 3


@pytest.mark.parametrize(("motion", "frames"), [("no-preference", 5), ("reduce", 1)])
def test_it_plays_when_asked_and_slowly_for_those_who_want_little_motion(opened, motion: str, frames: int):
    page = opened("explore", clock=True, reduced_motion=motion)
    page.clock.run_for(3000)
    assert shown(page) == 0  # it does not start by itself
    page.keyboard.press("Space")
    assert page.locator("#play").inner_text() == "Pause"
    page.clock.run_for(1010)
    assert shown(page) == frames
    page.locator("#play").click()
    page.clock.run_for(3000)
    assert shown(page) == frames
    assert page.locator("#play").inner_text() == "Play"


def test_digits_and_arrows_choose_the_ratio_and_its_matrix(opened):
    page = opened("explore")

    def ratio() -> str:
        (matrix,) = [one for one in page.locator(".matrix").all() if one.is_visible()]
        chosen = page.locator("input[name=ratio]:checked").input_value()
        assert matrix.get_attribute("data-ratio") == chosen
        return chosen

    assert ratio() == "1"  # the nearest to 0.9
    page.keyboard.press("1")
    assert ratio() == "0"
    page.keyboard.press("9")  # there is none
    assert ratio() == "0"
    page.keyboard.press("ArrowUp")
    assert ratio() == "1"
    page.get_by_role("radio", name="0.75").check()
    assert ratio() == "0"


def test_panels_show_their_masks(opened):
    page, clip = opened("explore"), explored()
    for strategy in range(2):
        for frame in (0, 5):
            page.locator("#frame").fill(str(frame))
            page.locator("#masks").check()
            masked = pixels(page, strategy)
            page.locator("#masks").uncheck()
            visible = clip.visible[1, strategy, frame // 2]
            changed = (masked != pixels(page, strategy)).any(-1)
            np.testing.assert_array_equal(changed, ~visible)
            assert page.locator(f"#seen{strategy}").inner_text() == f"{visible.sum()} of 12 visible"


def test_flow_is_drawn_over_the_panels(opened):
    page = opened("explore")
    before = page.evaluate("document.querySelector('canvas').toDataURL()")
    page.keyboard.press("f")
    assert page.locator("#arrows").is_checked()
    assert page.evaluate("document.querySelector('canvas').toDataURL()") != before
    page.locator("#arrows").uncheck()
    assert page.evaluate("document.querySelector('canvas').toDataURL()") == before


def test_letters_and_digits_can_be_switched_off(opened):
    page = opened("explore")
    page.get_by_text("Keys", exact=True).click()
    page.get_by_label("letters and digits").uncheck()
    for key in ("m", "f", "1"):
        page.keyboard.press(key)
    assert page.locator("#masks").is_checked()
    assert not page.locator("#arrows").is_checked()
    assert page.locator("input[name=ratio]:checked").input_value() == "1"
    page.keyboard.press("ArrowRight")  # no character
    assert shown(page) == 1
    page.get_by_label("letters and digits").check()
    page.keyboard.press("m")
    assert not page.locator("#masks").is_checked()


def test_a_token_under_the_pointer_shows_its_way(opened):
    page = opened("explore")
    canvas = page.locator("canvas").first
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] * 1.5 / 4, "y": box["height"] * 1.5 / 3})
    told = page.locator("#token")
    assert told.inner_text().startswith("Frame 0, token in row 1, column 1: ")
    assert told.inner_text().endswith("From frame 0 to 7 its centre moves 14 pixels right and 7 down.")
    page.mouse.move(0, 0)
    assert told.inner_text().startswith("Point at a token")


def test_a_token_is_marked_by_the_keyboard_too(opened):
    page, clip = opened("explore"), explored()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowLeft")  # the first marks the middle
    page.keyboard.press("Shift+ArrowLeft")
    told = page.locator("#token").inner_text()
    by = [name for name, seen in zip(clip.strategies, clip.visible[1, :, 2, 1, 1], strict=True) if seen]
    assert told.startswith(f"Frame 4, token in row 1, column 1: {'visible with ' + ', '.join(by) if by else 'hidden'}")
    assert "From frame 0 to 7 its centre moves 14 pixels right and 7 down." in told
    for _ in range(4):
        page.keyboard.press("Shift+ArrowLeft")
    assert "column 0" in page.locator("#token").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#token").inner_text().startswith("Point at a token")


@pytest.mark.parametrize("name", ["hostile_explore", "hostile_report"])
def test_hostile_names_run_nothing(opened, name: str):
    page = opened(name)
    assert "<img src=x onerror=alert(1)>" in page.locator("h1").inner_text()
    assert page.locator("img[src=x], svg[onload]").count() == 0


def test_the_policy_stops_what_would_have_got_in(browser, pages):
    page = browser.new_page()
    ready(page, pages / "explore.html")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.injected = 1\">')")
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.injected = 1'}))"
    )
    assert page.evaluate("fetch('data:text/plain,x').then(() => 'sent', () => 'stopped')") == "stopped"
    assert page.evaluate("window.injected") is None
    page.close()


@pytest.mark.parametrize("name", ["explore", "report", "hostile_explore", "hostile_report"])
def test_a_page_fits_a_narrow_phone(opened, name: str):
    page = opened(name, viewport={"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


@pytest.mark.parametrize("name", ["explore", "report"])
def test_what_has_the_focus_is_seen(opened, name: str):
    page = opened(name)
    for _ in range(6):
        page.keyboard.press("Tab")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


@pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core: `npm install axe-core`, or AXE_CORE=FILE")
@pytest.mark.parametrize("options", [LAPTOP, PHONE], ids=["laptop", "phone"])
@pytest.mark.parametrize("name", ["explore", "report"])
def test_axe_finds_nothing(opened, name: str, options: dict):
    page = opened(name, **options)
    for summary in page.locator("summary").all():
        summary.click()
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")
    assert [(one["id"], one["help"], [node["target"] for node in one["nodes"]]) for one in found["violations"]] == []
    assert len(found["passes"]) > 10


def test_a_picture_is_a_small_png(opened, tmp_path: Path):
    picture(opened("report"), tmp_path / "page.png", height=700)
    with Image.open(tmp_path / "page.png") as image:
        assert image.size == (1280, 700)
    assert (tmp_path / "page.png").stat().st_size < 300_000
