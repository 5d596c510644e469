"""The web page and the documentation's page: static files, kept in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.errors import Problem
from service.options import shown

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # that is: ask whether it has changed
}


@dataclass(frozen=True)
class File:
    """One file of the page."""

    content: bytes
    media_type: str
    etag: str


def load_files(folder: Path) -> dict[str, File]:
    """The page's files by name."""
    files = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in MEDIA_TYPES:
            content = path.read_bytes()
            files[path.name] = File(
                content, MEDIA_TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            )
    return files


def add_routes(app: FastAPI) -> None:
    """`/` and `/docs`, and `/page/...` for what they load."""
    files = load_files(Path(__file__).parent)

    def answer(request: Request, name: str) -> Response:
        if name not in files:
            raise Problem("not-found", f"one of {', '.join(files)}", shown(name))
        file = files[name]
        headers = {**HEADERS, "ETag": file.etag}
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.media_type, headers=headers)

    async def index(request: Request) -> Response:
        return answer(request, "index.html")

    async def documentation(request: Request) -> Response:
        return answer(request, "docs.html")

    async def part(request: Request) -> Response:
        return answer(request, request.path_params["name"])

    app.router.routes.extend(
        [
            Route("/", index, include_in_schema=False),
            Route("/docs", documentation, include_in_schema=False),
            Route("/page/{name}", part, include_in_schema=False),
        ]
    )
