"""The page: served whole, from this host alone."""

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service import page

FOLDER = Path(page.__file__).parent
FILES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in page.MEDIA_TYPES)


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
        found |= set(re.findall(r'(?:src|href)="(/page/[^"]+)"', text))
        found |= {f"/page/{other}" for other in re.findall(r'from "\./([^"]+)"', text)}
    assert {"/page/main.js", "/page/style.css", "/page/pad.js", "/page/docs.js"} <= found
    for path in found:
        response = client.get(path)
        assert response.status_code == 200, path
        assert response.content == (FOLDER / path.removeprefix("/page/")).read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_no_other_host_is_named(name: str) -> None:
    text = (FOLDER / name).read_text().replace('"http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|//[a-z]+\.", text)


@pytest.mark.parametrize("name", FILES)
def test_policy_and_types(client: TestClient, name: str) -> None:
    headers = client.get(f"/page/{name}").headers
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-type"] == page.MEDIA_TYPES[Path(name).suffix]


def test_unchanged_files_are_not_sent_again(client: TestClient) -> None:
    etag = client.get("/page/main.js").headers["etag"]
    again = client.get("/page/main.js", headers={"If-None-Match": etag})
    assert again.status_code == 304 and again.content == b""
    assert client.get("/page/main.js", headers={"If-None-Match": '"other"'}).status_code == 200


def test_ids_that_the_script_uses_exist() -> None:
    html = (FOLDER / "index.html").read_text()
    for used in set(re.findall(r'by\("([a-z]+)"\)', (FOLDER / "main.js").read_text())):
        assert f'id="{used}"' in html
