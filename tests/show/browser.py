"""Chromium without a window, for the tests of pages and for the pictures of them in docs/.

`python tests/show/browser.py PAGE.html PICTURE.png [KEY ...]` pictures a page on a laptop, after keys such as
ArrowRight or Shift+ArrowUp; `--phone` does so on a phone, with dark colours. It needs the extra `browser`, and
Chromium: the system's, or what `playwright install chromium` gets.
"""

import argparse
import contextlib
import io
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

LAPTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True}


def system_chromium() -> str | None:
    """The Chromium of the system; None leaves Playwright its own."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """A browser that can be opened by root as well, as in a container."""
    with sync_playwright() as playwright:
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        options = {"executable_path": system_chromium(), "chromium_sandbox": not root}
        browser = playwright.chromium.launch(**options)
        try:
            yield browser
        finally:
            browser.close()


def ready(page: Page, path: Path) -> None:
    """Opens a page from disk, and waits until its script has drawn the first frame, if it has one."""
    page.goto(path.resolve().as_uri())
    if page.locator("#clip").count():
        page.wait_for_selector("html[data-ready]")


def picture(page: Page, path: Path, *, height: int | None = None) -> None:
    """Writes a screenshot as a small PNG, of 256 colours.

    Args:
      page: what to picture.
      path: ends in .png.
      height: in pixels, from the top; None is the whole page.
    """
    with Image.open(io.BytesIO(page.screenshot(full_page=True))) as image:
        shown = image.convert("RGB").crop((0, 0, image.width, min(height or image.height, image.height)))
    shown.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def main(argv: Sequence[str] | None = None) -> None:
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("page", type=Path)
    command.add_argument("picture", type=Path)
    command.add_argument("keys", nargs="*")
    command.add_argument("--phone", action="store_true")
    command.add_argument("--height", type=int)
    args = command.parse_args(argv)
    with open_browser() as browser:
        page = browser.new_page(**(PHONE if args.phone else LAPTOP))
        ready(page, args.page)
        for key in args.keys:
            page.keyboard.press(key)
        picture(page, args.picture, height=args.height)


if __name__ == "__main__":
    main()
