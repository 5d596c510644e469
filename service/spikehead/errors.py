"""Errors of requests, as `application/problem+json` (RFC 9457).

Each kind has a stable `type`, `/problems/<kind>`, which the service also answers with a description. Nothing
here knows HTTP beyond the status code that a kind asks for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Kind:
    """One kind of problem. `expected` and `received` are an example, for the documentation."""

    status: int
    title: str
    expected: str
    received: str


KINDS: dict[str, Kind] = {
    "empty-body": Kind(400, "The body is empty", "an image in the body", "0 bytes"),
    "malformed-request": Kind(
        400, "The request cannot be parsed", "a request in HTTP/1.1", "bytes that are not HTTP/1.1"
    ),
    "malformed-body": Kind(400, "The body cannot be parsed", "JSON", "expected value at line 1 column 2"),
    "unauthorized": Kind(
        401,
        "An API key is required",
        "an API key: Authorization: Bearer KEY, X-API-Key: KEY, or the password of HTTP Basic",
        "none",
    ),
    "not-found": Kind(
        404, "Nothing was found at this path", "a route of this service (see /docs)", "'/classfy'"
    ),
    "unknown-model": Kind(404, "The model does not exist", "model: one of spiking-mha", "'resnet'"),
    "unknown-request": Kind(404, "The request is not in the records", "the id of a recent request", "'42'"),
    "model-changed": Kind(
        409, "The model has changed since the request", "spiking-mha 1.0.0, as recorded", "version 1.1.0"
    ),
    "no-such-figure": Kind(422, "The model has no such figure", "a network with decay kernels", "ann-twin"),
    "method-not-allowed": Kind(405, "The route does not support the method", "POST", "GET"),
    "too-slow": Kind(
        408, "The request arrived too slowly", "a whole body within 10 seconds", "only part of it"
    ),
    "body-too-large": Kind(413, "The body is too large", "at most 1048576 bytes", "2000000 bytes"),
    "too-many-images": Kind(413, "The batch has too many images", "at most 10000 images", "20000 images"),
    "image-too-large": Kind(
        413, "The picture has too many pixels", "at most 16000000 pixels", "20000 x 20000 pixels"
    ),
    "head-too-large": Kind(
        431, "The request's head is too large", "at most 65536 bytes of target and headers", "more"
    ),
    "unsupported-media-type": Kind(
        415,
        "The media type is not supported",
        "image/*, application/octet-stream, application/json or multipart/form-data",
        "'text/csv'",
    ),
    "unsupported-image-format": Kind(
        415, "The picture's format is not supported", "a PNG, JPEG, WebP, BMP or GIF picture", "TIFF data"
    ),
    "unreadable-image": Kind(
        422, "The picture cannot be read", "a complete picture", "a broken one (image file is truncated)"
    ),
    "animated-image": Kind(422, "The picture is animated", "a still picture", "an animation of 3 frames"),
    "blank-image": Kind(
        422,
        "The picture has no ink",
        "ink at least 16 grey levels from the paper",
        "a contrast of 0 grey levels",
    ),
    "wrong-size": Kind(422, "The number of bytes is wrong", "784 bytes, 28 rows of 28 pixels", "783 bytes"),
    "wrong-pixels": Kind(
        422, "The pixels are wrong", "a whole number from 0 to 255 at row 3, column 5", "256"
    ),
    "missing-image": Kind(422, "There is no image in the body", "'image' or 'pixels'", "neither"),
    "too-many-files": Kind(422, "There is more than one image", "one file (see /classify/batch)", "2 files"),
    "unknown-option": Kind(
        422,
        "The option does not exist",
        "one of model, max_steps, confidence, seed, encoder, raster, record",
        "'steps'",
    ),
    "invalid-option": Kind(
        422, "An option has an invalid value", "max_steps: a whole number from 1 to 16", "'0'"
    ),
    "conflicting-option": Kind(422, "An option is given twice", "one value of seed", "'7' and 8"),
    "unknown-layer": Kind(
        422, "The layer does not exist", "raster: layers among all, input, output", "'stem9'"
    ),
    "overloaded": Kind(
        429, "The service is overloaded", "at most 2 requests at a time and 64 waiting", "more"
    ),
    "rate-limited": Kind(429, "The client sends too many requests", "at most 100 per 1 second", "more"),
    "internal-error": Kind(
        500,
        "The service failed unexpectedly",
        "an answer",
        "an unexpected error, logged under the request's id",
    ),
    "no-figures": Kind(
        501, "Figures cannot be drawn", "matplotlib (pip install 'spikehead[figures]')", "none installed"
    ),
    "not-recorded": Kind(
        503,
        "The record could not be stored",
        "a record on disk before the answer",
        "no answer from the database",
    ),
    "records-away": Kind(
        503,
        "The records database is unavailable",
        "an answer from the database",
        "unable to open database file",
    ),
    "not-ready": Kind(503, "The service is not ready", "models that are loaded and warmed up", "none yet"),
    "shutting-down": Kind(
        503, "The service is shutting down", "a service that takes requests", "one that is shutting down"
    ),
    "timed-out": Kind(503, "The answer took too long", "an answer within 30 seconds", "none yet"),
}
"""Every kind of problem that the service answers with."""


def type_of(kind: str) -> str:
    """Return the `type` of a kind: a URI reference, stable across versions."""
    return f"/problems/{kind}"


class Problem(Exception):
    """The reason why a request cannot be answered.

    `kind` is a key of KINDS; `image` counts from 0 in a batch; `filename` is that image's, if it came as a file;
    `retry_after`: seconds after which the client may try again.
    """

    def __init__(
        self,
        kind: str,
        expected: str,
        received: str,
        image: int | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(f"{KINDS[kind].title}: expected {expected}, got {received}")
        self.kind, self.expected, self.received, self.image = kind, expected, received, image
        self.retry_after = retry_after
        self.filename: str | None = None

    @property
    def status(self) -> int:
        return KINDS[self.kind].status

    def document(self, request_id: str = "") -> dict[str, Any]:
        """Return the members of the problem document."""
        named = "" if self.filename is None else f" ({self.filename!r})"
        where = "" if self.image is None else f"image {self.image}{named}: "
        document: dict[str, Any] = {
            "type": type_of(self.kind),
            "title": KINDS[self.kind].title,
            "status": self.status,
            "detail": f"{where}expected {self.expected}, got {self.received}",
            "expected": self.expected,
            "received": self.received,
            "request_id": request_id,
        }
        if self.image is not None:
            document["image"] = self.image
        if self.filename is not None:
            document["filename"] = self.filename
        return document

    def json(self, request_id: str) -> bytes:
        """Encode the problem document in ASCII: clients may send lone surrogates, which UTF-8 cannot encode."""
        return json.dumps(self.document(request_id)).encode("ascii")


class ServiceError(RuntimeError):
    """A service does not answer, or another program does. The message says what was expected and what came."""


def example(kind: str) -> dict[str, Any]:
    """Return a problem document of that kind, for the documentation."""
    return Problem(kind, KINDS[kind].expected, KINDS[kind].received).document("0193d5f0c1a27b3e5f4c2d19")
