"""The web page and the documentation page: static files, kept in memory. plotly's script comes from its package."""

from __future__ import annotations

import gzip
import hashlib
import html
import importlib.util
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from spikehead.errors import Problem
from spikehead.inference.options import quoted
from spikehead.telemetry.request import note_route

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = "default-src 'self'; img-src 'self' blob: data:; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # ask if it has changed
}
INDEX_POLICY = f"{POLICY}; style-src 'self' 'unsafe-inline'"
"""The policy of a page into which plotly writes styles; scripts stay strict."""

_HEAD = b'<meta charset="utf-8">\n'
PARTS = "/page/{name}"
PLOTLY = "plotly.js"
PROBLEM = "problem.html"
FOLDER = Path(__file__).parent
PLOTLY_SECONDS = 7 * 24 * 3600
"""Seconds that browsers keep plotly's script, which changes only with its package, without asking."""


@dataclass(frozen=True)
class File:
    """One file of the page."""

    content: bytes
    media_type: str
    etag: str


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:16]}"'


def load_files(folder: Path, root_path: str = "") -> dict[str, File]:
    """Read the page's files, by name."""
    files = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in MEDIA_TYPES and path.name != PROBLEM:
            content = path.read_bytes()
            if path.suffix == ".html":
                content = _with_base(content, root_path)
            files[path.name] = File(content, MEDIA_TYPES[path.suffix], _etag(content))
    return files


def _with_base(document: bytes, root_path: str, otherwise: str = "") -> bytes:
    """Make the relative addresses of an HTML document begin at the root path, or else at `otherwise`.

    With a root path, they are right at `/digits` as well as at `/digits/`.
    """
    base = f"{root_path}/" if root_path else otherwise
    return document.replace(_HEAD, _HEAD + f'<base href="{base}">\n'.encode(), 1) if base else document


def problem_page(about: Mapping[str, Any], root_path: str) -> Response:
    """Explain a kind of problem to people."""
    words = {name: html.escape(str(value)) for name, value in about.items()}
    words["example"] = html.escape(json.dumps(about["example"], indent=2))
    document = Template((FOLDER / PROBLEM).read_text("utf-8")).substitute(words)
    content = _with_base(document.encode(), root_path, "../")
    return Response(content, media_type=MEDIA_TYPES[".html"], headers=HEADERS)


@dataclass(frozen=True)
class Plotly:
    """plotly's script from its Python package, kept compressed: 1.5 MB instead of 5."""

    compressed: bytes
    etag: str


def plotly_path() -> Path:
    """Find the script of the installed package, without importing it."""
    spec = importlib.util.find_spec("plotly")
    folders = [] if spec is None else spec.submodule_search_locations or []
    for folder in folders:
        path = Path(folder) / "package_data" / "plotly.min.js"
        if path.is_file():
            return path
    raise Problem("not-found", "plotly's script (pip install 'plotly>=6')", "no such package")


# the script is compressed once, which takes a moment
_reading = threading.Lock()


@cache
def _read_plotly(path: Path) -> Plotly:
    content = path.read_bytes()
    return Plotly(gzip.compress(content, 6, mtime=0), _etag(content))


def plotly() -> Plotly:
    """Return the script, which the first call reads. Raises Problem if it is not installed."""
    path = plotly_path()
    with _reading:
        return _read_plotly(path)


def _unchanged(request: Request, etag: str, headers: dict[str, str]) -> Response | None:
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return None


def _plotly_script(request: Request) -> Response:
    """Answer with the script. No coroutine: it runs in a thread, as reading and compressing would block the loop."""
    note_route(request.scope, PARTS)
    script = plotly()
    headers = {
        **HEADERS,
        "ETag": script.etag,
        "Cache-Control": f"public, max-age={PLOTLY_SECONDS}",
        "Vary": "Accept-Encoding",
    }
    if unchanged := _unchanged(request, script.etag, headers):
        return unchanged
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        content = script.compressed
    else:
        content = gzip.decompress(script.compressed)
    return Response(content, media_type=MEDIA_TYPES[".js"], headers=headers)


def add_routes(app: FastAPI, root_path: str = "") -> None:
    """Add `/`, `/docs` and their files `/page/...`. `root_path`: the path at which a proxy serves them."""
    files = load_files(FOLDER, root_path)

    def answer(request: Request, name: str, policy: str = POLICY) -> Response:
        if name not in files:
            raise Problem("not-found", f"one of {', '.join([*files, PLOTLY])}", quoted(name))
        file = files[name]
        headers = {**HEADERS, "Content-Security-Policy": policy, "ETag": file.etag}
        if unchanged := _unchanged(request, file.etag, headers):
            return unchanged
        return Response(file.content, media_type=file.media_type, headers=headers)

    async def index(request: Request) -> Response:
        note_route(request.scope, "/")
        return answer(request, "index.html", INDEX_POLICY)

    async def documentation(request: Request) -> Response:
        note_route(request.scope, "/docs")
        return answer(request, "docs.html")

    async def part(request: Request) -> Response:
        note_route(request.scope, PARTS)
        return answer(request, request.path_params["name"])

    app.router.routes.extend(
        [
            Route("/", index, include_in_schema=False),
            Route("/docs", documentation, include_in_schema=False),
            Route(f"/page/{PLOTLY}", _plotly_script, include_in_schema=False),
            Route(PARTS, part, include_in_schema=False),
        ]
    )
