"""Loaded by schemathesis (SCHEMATHESIS_HOOKS): pictures that it makes from the document are sent as they are."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.serializer("image/png", "image/jpeg", "image/webp", "image/bmp", "image/gif", "image/*")
def picture(context: Any, value: Any) -> bytes:
    """Bytes where it made bytes, else what it made as text."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
