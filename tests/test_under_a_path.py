"""The service under `/digits/` of a proxy, nginx: with and without the path on what comes through, over HTTP and as a
browser sees it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from tests.browser import WAIT, browsing, chromium, draw
from tests.browser import serving as serving_shipped
from tests.nginx import LEAVES, STRIPS, nginx, proxying
from tests.service.conftest import SHIPPED, band
from tests.service.serving import ask, serving

RAW = {"Content-Type": "application/octet-stream"}
WAYS = pytest.mark.parametrize(
    ("how", "root_path"),
    [(STRIPS, ""), (STRIPS, "/digits"), (LEAVES, "/digits")],
    ids=["stripped, nothing set", "stripped", "left"],
)


@pytest.fixture
def program() -> str:
    found = nginx()
    if found is None:
        pytest.skip("needs nginx: apt-get install nginx-light")
    return found


@WAYS
def test_over_http(
    program: str, models_folder: Path, tmp_path: Path, how: tuple[str, str], root_path: str
) -> None:
    with (
        serving(models_folder, ROOT_PATH=root_path) as (port, _),
        proxying(program, tmp_path, f"http://127.0.0.1:{port}", how) as address,
    ):
        proxy = urlsplit(address).port
        assert proxy is not None
        for page in ("/digits/", "/digits/docs", "/digits/problems/blank-image"):
            status, _, body = ask(proxy, "GET", page, headers={"Accept": "text/html"})
            assert status == 200, page
            base = re.search(rb'<base href="([^"]+)">', body)
            start = urljoin(page, base[1].decode()) if base else page
            for target in re.findall(rb'(?:href|src)="([^"]+)"', re.sub(rb"<base[^>]+>", b"", body)):
                assert ask(proxy, "GET", urljoin(start, target.decode()))[0] == 200, target
        status, _, body = ask(proxy, "GET", "/digits/openapi.json")
        assert (status, json.loads(body).get("servers")) == (
            200,
            [{"url": root_path}] if root_path else None,
        )
        status, _, body = ask(proxy, "POST", "/digits/classify", band(4).tobytes(), RAW)
        answer = json.loads(body)
        assert (status, answer["prediction"]) == (200, 4)
        assert ask(proxy, "GET", f"/digits/spikes/{answer['id']}?include=all")[0] == 200
        events = ask(
            proxy, "POST", "/digits/classify", band(4).tobytes(), RAW | {"Accept": "text/event-stream"}
        )
        assert events[0] == 200 and events[2].count(b"event: result\n") == 1
        refused = ask(proxy, "POST", "/digits/classify", b"", RAW)
        assert (refused[0], json.loads(refused[2])["type"]) == (400, "/problems/empty-body")
        assert ask(port, "GET", "/health/ready")[0] == 200  # past the proxy


@WAYS
def test_without_the_last_slash(
    program: str, models_folder: Path, tmp_path: Path, how: tuple[str, str], root_path: str
) -> None:
    """Either nginx leads to the address with the slash, or what comes back begins there."""
    with (
        serving(models_folder, ROOT_PATH=root_path) as (port, _),
        proxying(program, tmp_path, f"http://127.0.0.1:{port}", how) as address,
    ):
        proxy = urlsplit(address).port
        assert proxy is not None
        status, headers, body = ask(proxy, "GET", "/digits")
        if how == STRIPS:
            assert (status, headers["location"]) == (301, f"{address}/digits/")
        else:
            assert status == 200 and b'<base href="/digits/">' in body


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = chromium()
    if executable is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with browsing(executable) as browser:
        yield browser


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "root_path", "path"),
    [(STRIPS, "", "/digits/"), (STRIPS, "/digits", "/digits"), (LEAVES, "/digits", "/digits")],
    ids=["stripped, nothing set", "stripped", "left"],
)
def test_the_page_in_a_browser(
    browser: Browser, program: str, tmp_path: Path, how: tuple[str, str], root_path: str, path: str
) -> None:
    if not (SHIPPED / "card.json").is_file():
        pytest.skip(f"needs the shipped model in {SHIPPED}")
    troubles: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            troubles.append(message.text)

    with (
        serving_shipped(SHIPPED.parent, tmp_path, root_path=root_path) as service,
        proxying(program, tmp_path, service, how) as address,
    ):
        page: Page = browser.new_context(locale="en-GB").new_page()
        page.set_default_timeout(WAIT)
        page.on("console", note)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on(
            "response", lambda response: troubles.append(response.url) if response.status >= 400 else None
        )
        page.goto(address + path)
        expect(page.locator("body")).to_have_css("background-color", "rgb(248, 247, 243)")  # it has its style
        draw(page, 3, "round")
        expect(page.locator("#status")).to_have_text(re.compile("^This is a 3, "), timeout=WAIT)
        assert re.fullmatch(rf"{address}/digits/?#[0-9a-f]{{24}}", page.url)
        expect(page.locator("#list button").first).to_contain_text("3", timeout=WAIT)
        page.locator("#potentials").scroll_into_view_if_needed()
        expect(page.locator("#potentials .main-svg").first).to_be_visible(timeout=WAIT)  # plotly has come
        page.get_by_role("link", name="HTTP interface").click()
        expect(page).to_have_url(f"{address}/digits/docs", timeout=WAIT)
        shown = f"{root_path}/classify"
        expect(page.locator(".route h2 code", has_text=re.compile(f"^{shown}$"))).to_be_visible(timeout=WAIT)
        page.get_by_role("link", name="Back to the page.").click()
        expect(page).to_have_url(f"{address}/digits/", timeout=WAIT)
        page.context.close()
    assert troubles == []
