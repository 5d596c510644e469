"""Screenshots of the page, into this folder: `python -m docs.screenshots.make`. Needs chromium."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import typer
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, expect
from spikehead.settings import default_models

from tests.browser import WAIT, browsing, chromium, draw, serving

HERE = Path(__file__).resolve().parent
MOST_BYTES = 300_000
COLOURS = 128
STEP = "4"
DESK = ViewportSize(width=1280, height=2700)  # so high that every plot is in sight and drawn
PHONE = ViewportSize(width=360, height=1500)


def main() -> None:
    executable = chromium()
    if executable is None:
        sys.exit("needs a browser: apt-get install chromium")
    expect.set_options(timeout=WAIT)
    with (
        tempfile.TemporaryDirectory() as records,
        serving(default_models(), Path(records)) as address,
        browsing(executable) as browser,
    ):
        page = open_page(browser, address)
        fill_list(page, address)
        draw(page, 3, "round")
        expect(page.locator("#play")).to_have_text("Pause")
        expect(page.locator("#play")).to_have_text("Play")
        page.locator("#slider").fill(STEP)
        for box in page.locator(".plot").all():
            expect(box.locator(".main-svg").first).to_be_visible()
        page.mouse.move(0, 0)
        save(page, "light")
        page.emulate_media(color_scheme="dark")
        expect(page.locator("#feedback .xtick text").first).to_have_css("fill", "rgb(168, 171, 180)")
        save(page, "dark")
        page.emulate_media(color_scheme="light")
        page.set_viewport_size(PHONE)
        page.wait_for_timeout(1000)  # plots take their new width
        save(page, "phone", whole=False)


def open_page(browser: Browser, address: str) -> Page:
    page = browser.new_context(viewport=DESK, locale="en-GB", timezone_id="UTC").new_page()
    page.set_default_timeout(WAIT)
    page.goto(address)
    return page


def fill_list(page: Page, address: str) -> None:
    """Some requests to be shown as recent ones, not all of them easy."""
    for picture in sorted((HERE.parents[1] / "examples").glob("*.png")):
        headers = {"Content-Type": "image/png"}
        page.request.post(f"{address}/classify?seed=7", data=picture.read_bytes(), headers=headers)


def save(page: Page, name: str, whole: bool = True) -> None:
    """With few colours, so that the file is small."""
    picture = Image.open(io.BytesIO(page.screenshot(full_page=whole))).convert("RGB")
    path = HERE / f"{name}.png"
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    if size > MOST_BYTES:
        sys.exit(f"{path}: expected at most {MOST_BYTES} bytes, got {size}")
    typer.echo(f"{path}: {picture.width} x {picture.height}, {size} bytes")


if __name__ == "__main__":
    main()
