"""Pictures of the page, still and moving, into this folder: `python -m docs.screenshots.make`. Needs chromium."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import typer
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, expect
from spikehead.settings import default_models

from tests.browser import WAIT, browsing, chromium, draw, serving

HERE = Path(__file__).resolve().parent
MOST_BYTES = 300_000
MOST_FILM_BYTES = 1_500_000
COLOURS = 128
STEP = "4"
DESK = ViewportSize(width=1280, height=2700)  # so high that every plot is in sight and drawn
PHONE = ViewportSize(width=360, height=1500)
SCREEN = ViewportSize(width=1140, height=780)
FILM_WIDTH = 798  # pixels: 0.7 of the screen


def main() -> None:
    executable = chromium()
    if executable is None:
        sys.exit("needs a browser: apt-get install chromium")
    expect.set_options(timeout=WAIT)
    with (
        tempfile.TemporaryDirectory() as records,
        serving(default_models(), Path(records), log_level="warning") as address,
        browsing(executable) as browser,
    ):
        page = open_page(browser, address, DESK)
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
        film(open_page(browser, address, SCREEN))


def open_page(browser: Browser, address: str, size: ViewportSize) -> Page:
    page = browser.new_context(viewport=size, locale="en-GB", timezone_id="UTC").new_page()
    page.set_default_timeout(WAIT)
    page.goto(address)
    return page


def fill_list(page: Page, address: str) -> None:
    """Some requests to be shown as recent ones, not all of them easy."""
    for picture in sorted((HERE.parents[1] / "examples").glob("*.png")):
        headers = {"Content-Type": "image/png"}
        page.request.post(f"{address}/classify?seed=7", data=picture.read_bytes(), headers=headers)


def film(page: Page) -> None:
    """An 8 is drawn and read; then its run is gone through, from the pixels to the output neurons."""
    frames: list[Image.Image] = []
    lengths: list[int] = []  # milliseconds

    def shot(milliseconds: int) -> None:
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        height = round(picture.height * FILM_WIDTH / picture.width)
        frames.append(picture.resize((FILM_WIDTH, height), Image.Resampling.LANCZOS))
        lengths.append(milliseconds)

    page.emulate_media(reduced_motion="reduce")  # it plays nothing by itself
    page.locator("[name=seed]").evaluate("field => field.value = '7'")
    expect(page.locator("#list li").first).to_be_visible()
    shot(700)
    draw(page, 8, "narrow", every(4, lambda: shot(80)))
    expect(page.locator("#facts")).to_contain_text("equal to what was recorded")
    page.mouse.move(0, 0)
    shot(1800)
    steps = iter(range(1, 17))
    for panel, count in (("pictures-panel", 6), ("layers-panel", 5), ("potentials-panel", 5)):
        page.locator(f"#{panel}").evaluate("panel => scrollTo(0, panel.offsetTop - 90)")
        page.wait_for_timeout(1000)  # plots are drawn when they come into sight
        for _ in range(count):
            page.locator("#slider").fill(str(next(steps)))
            page.wait_for_timeout(200)
            shot(400)
    lengths[-1] = 2500
    # one palette for all: an unchanged part of a frame is then not stored again
    sheet = Image.new("RGB", (FILM_WIDTH, frames[0].height * 4))
    for number, frame in enumerate((frames[0], frames[-16], frames[-6], frames[-1])):
        sheet.paste(frame, (0, number * frame.height))
    palette = sheet.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    first, *others = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    path = HERE / "page.gif"
    first.save(path, save_all=True, append_images=others, duration=lengths, loop=0, optimize=False)
    report(path, first, MOST_FILM_BYTES)


def every(number: int, function: Callable[[], None]) -> Callable[[], None]:
    """Calls the function at each `number`th call."""
    calls = 0

    def called() -> None:
        nonlocal calls
        calls += 1
        if calls % number == 0:
            function()

    return called


def save(page: Page, name: str, whole: bool = True) -> None:
    """With few colours, so that the file is small."""
    picture = Image.open(io.BytesIO(page.screenshot(full_page=whole))).convert("RGB")
    path = HERE / f"{name}.png"
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    report(path, picture, MOST_BYTES)


def report(path: Path, picture: Image.Image, most: int) -> None:
    """Says what was written; a file that is too large ends it."""
    size = path.stat().st_size
    if size > most:
        sys.exit(f"{path}: expected at most {most} bytes, got {size}")
    typer.echo(f"{path}: {picture.width} x {picture.height}, {size} bytes")


if __name__ == "__main__":
    main()
