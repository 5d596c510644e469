"""Requests for load, made beforehand: drawings of digits as users send them, and the lightest request there is."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from tests.service.drawings import encoded, random_style, render

DRAWINGS = 50


def post(path: str, content_type: str, body: bytes, *headers: str) -> bytes:
    """A whole request."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: a",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@cache
def pictures(format: str = "PNG") -> tuple[bytes, ...]:
    """Files of 50 drawings, each 200 to 600 pixels wide and high; always the same."""
    files = []
    for number in range(DRAWINGS):
        random = np.random.default_rng(20_000 + number)
        digit = number % 10
        style = replace(random_style(digit, random), side=int(random.integers(200, 600)))
        files.append(encoded(render(digit, style, random), format))
    return tuple(files)


def drawings() -> list[bytes]:
    """Make pictures like those of users: about 10 ms of work each."""
    return [post("/classify", "image/png", file) for file in pictures()]


def drawings_of_both_kinds() -> list[bytes]:
    """The drawings twice: on a connection that stays, and on one that is closed after its answer."""
    closing = [post("/classify", "image/png", file, "Connection: close") for file in pictures()]
    return [request for pair in zip(drawings(), closing, strict=True) for request in pair]


def raw() -> list[bytes]:
    """The lightest request: 784 bytes of pixels."""
    requests = []
    for file in pictures():
        # some ink is all that matters here, so a band that moves
        image = np.zeros((28, 28), np.uint8)
        top = 4 + len(file) % 16
        image[top : top + 4, 8:20] = 255
        requests.append(post("/classify", "application/octet-stream", image.tobytes()))
    return requests
