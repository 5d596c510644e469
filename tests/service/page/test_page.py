"""The page: served whole, from this host alone. How it behaves: `tests/test_page_in_browser.py`."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from spikehead import page
from spikehead.settings import Settings
from spikehead.web.app import create_app

from tests.service.conftest import MAX_STEPS

FOLDER = Path(page.__file__).parent
FILES = sorted(page.load_files(FOLDER))
SCRIPTS = [name for name in FILES if name.endswith(".js")]
PLOTLY = "/page/plotly.js"


@pytest.mark.parametrize(("path", "title"), [("/", "spikehead"), ("/docs", "spikehead: HTTP interface")])
def test_pages(client: TestClient, path: str, title: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert f"<title>{title}</title>" in response.text


def test_everything_that_the_pages_load_is_there(client: TestClient) -> None:
    found: set[str] = set()
    for name in FILES:
        text = (FOLDER / name).read_text()
        found |= set(re.findall(r'(?:src|href)="(page/[^"]+)"', text))
        found |= {f"page/{other}" for other in re.findall(r'from "\./([^"]+)"', text)}
    assert {f"page/{name}" for name in FILES if not name.endswith(".html")} == found
    for path in found:
        response = client.get(f"/{path}")
        assert response.status_code == 200, path
        assert response.content == (FOLDER / path.removeprefix("page/")).read_bytes()


@pytest.mark.parametrize("name", [*FILES, page.PROBLEM])
def test_all_addresses_are_relative(name: str) -> None:
    """So that a proxy may serve the page under any path."""
    text = (FOLDER / name).read_text()
    assert not re.search(r"""(?:src|href|action)="/|(?:fetch|ask|get)\([`"']/|src = "/|url\(["']?/""", text)


@pytest.mark.parametrize("name", FILES)
def test_no_other_host_is_named(name: str) -> None:
    text = (FOLDER / name).read_text().replace('"http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|//[a-z]+\.", text)


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_without_a_root_path_there_is_no_base(client: TestClient, path: str) -> None:
    assert "<base" not in client.get(path).text


@pytest.fixture(scope="module")
def proxied(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings.model_copy(update={"root_path": "/digits"}))) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/docs", "/problems/blank-image"])
@pytest.mark.parametrize("left", ["", "/digits"])
def test_under_a_root_path_addresses_begin_there(proxied: TestClient, path: str, left: str) -> None:
    """It works if the proxy strips the path and if it leaves it, whatever the browser's address ends in."""
    response = proxied.get(left + path, headers={"Accept": "text/html"})
    assert response.status_code == 200
    assert re.findall(r'<base href="([^"]*)">', response.text) == ["/digits/"]
    assert response.text.index("<base") < response.text.index("href=", response.text.index("<base") + 12)
    assert "base-uri 'self'" in response.headers["content-security-policy"]


def test_a_root_path_without_its_slash_is_the_page(proxied: TestClient) -> None:
    assert proxied.get("/digits").text == proxied.get("/digits/").text == proxied.get("/").text


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_says_what_it_is_for(name: str) -> None:
    assert (FOLDER / name).read_text().startswith("// ")


@pytest.mark.parametrize("name", FILES)
def test_policy_and_types(client: TestClient, name: str) -> None:
    headers = client.get(f"/page/{name}").headers
    assert headers["content-security-policy"] == page.POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-type"] == page.MEDIA_TYPES[Path(name).suffix]


@pytest.mark.parametrize(("path", "styles"), [("/", True), ("/docs", False)])
def test_scripts_come_from_files_of_this_host_alone(client: TestClient, path: str, styles: bool) -> None:
    policy = dict(
        part.split(" ", 1) for part in client.get(path).headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == "'self'" and "script-src" not in policy
    assert ("style-src" in policy) == styles  # plotly's


def test_unchanged_files_are_not_sent_again(client: TestClient) -> None:
    etag = client.get("/page/main.js").headers["etag"]
    again = client.get("/page/main.js", headers={"If-None-Match": etag})
    assert again.status_code == 304 and again.content == b""
    assert client.get("/page/main.js", headers={"If-None-Match": '"other"'}).status_code == 200


def test_plotly_comes_from_its_package(client: TestClient) -> None:
    shipped = page.plotly_path().read_bytes()
    assert shipped.startswith(b"/**\n* plotly.js v")
    for encoding in ("gzip", "identity"):
        response = client.get(PLOTLY, headers={"Accept-Encoding": encoding})
        assert response.status_code == 200 and response.content == shipped
        assert response.headers.get("content-encoding", "identity") == encoding
        assert response.headers["content-type"] == "text/javascript; charset=utf-8"
        assert response.headers["cache-control"] == "public, max-age=604800"
        assert response.headers["vary"] == "Accept-Encoding"
        assert response.headers["content-security-policy"] == page.POLICY
    etag = response.headers["etag"]
    assert client.get(PLOTLY, headers={"If-None-Match": etag}).status_code == 304
    assert client.get(PLOTLY, headers={"If-None-Match": '"other"'}).status_code == 200


def test_plotly_costs_nothing_until_it_is_asked_for(client: TestClient) -> None:
    page._read_plotly.cache_clear()
    assert client.get("/").status_code == 200
    assert page._read_plotly.cache_info().currsize == 0
    client.get(PLOTLY)
    client.get(PLOTLY)
    assert page._read_plotly.cache_info().misses == 1
    assert "plotly" not in sys.modules


def test_without_plotly_the_page_is_still_there(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    problem = client.get(PLOTLY)
    assert problem.status_code == 404
    assert problem.json()["expected"] == "plotly's script (pip install 'plotly>=6')"
    assert client.get("/").status_code == 200


def test_ids_that_the_scripts_use_exist_once() -> None:
    html = (FOLDER / "index.html").read_text()
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    for name in ("main.js", "stage.js"):
        for used in set(re.findall(r'by\("([a-z-]+)"\)', (FOLDER / name).read_text())):
            assert used in ids, used
    plots = re.findall(r'^    id: "([a-z]+)"', (FOLDER / "plots.js").read_text(), re.MULTILINE)
    assert len(plots) == 9
    for plot in plots:
        assert {plot, f"{plot}-panel"} <= set(ids)


def test_what_the_page_reads_is_answered(client: TestClient) -> None:
    """The names that `run.js` takes from a replay."""
    answer = client.post("/classify?confidence=1&seed=1", content=bytes(600) + bytes([255] * 184)).json()
    replay = client.get(f"/spikes/{answer['id']}?include=all").json()
    script = (FOLDER / "run.js").read_text()
    taken = set(re.findall(r'part\("([a-z]+)"\)', script)) | {"probabilities", "answer"}
    assert taken - {"attention", "feedback"} <= set(replay)  # the tiny model has neither heads nor kernel B
    assert len(replay["probabilities"]["class"]) == MAX_STEPS
