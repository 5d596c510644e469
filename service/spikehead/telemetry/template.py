"""Templates of frequent log lines: structlog renders the form once, and values are filled in.

structlog's renderer for people takes several times as long for a dozen fields as the network for a picture.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring
from operator import itemgetter
from typing import Any

from structlog.typing import EventDict

_PLACE = re.compile(r'"?%\((\w+)\)(\.?\d*[sdf])"?')
_PLAIN = re.compile(r"[!#-&(-<>-~]+")
_PARTING = frozenset(" =\"'")


class Template:
    """The form of an event with fixed fields. `fill` is for one thread."""

    def __init__(
        self, renderer: Callable[[Any, str, EventDict], str], event: str, fields: Mapping[str, str]
    ) -> None:
        """`renderer`: structlog's, for people or for JSON. `fields`: `s`, `d` or `.3f` for each name's values."""
        kinds = {"timestamp": "s", **fields}
        places = {name: f"%({name}){kind}" for name, kind in kinds.items()}
        form = renderer(None, "info", {"level": "info", "event": event, **places})
        names = list(kinds)
        self._order: Callable[[list[object]], Any] = itemgetter(
            *(names.index(place[1]) for place in _PLACE.finditer(form))
        )
        self._form = _PLACE.sub(r"%\2", form) + "\n"
        self._text = encode_basestring if form.startswith("{") else printable
        self._second, self._date = -1, ""

    def fill(self, at: float, *values: object) -> str:
        """Return the line of an event at a time (of `time.time`), with values in the order of the fields."""
        second = int(at)
        if second != self._second:
            self._second = second
            self._date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        stamp = f"{self._date}.{int((at - second) * 1e6):06d}Z"
        text = self._text
        printed: list[object] = [text(value) if type(value) is str else value for value in (stamp, *values)]
        line: str = self._form % self._order(printed)
        return line


def printable(text: str) -> str:
    """Quote a text, as structlog does, if it has blanks, looks like another field, or could control a terminal."""
    if _PLAIN.fullmatch(text) or (text.isprintable() and not _PARTING & set(text)):
        return text
    return repr(text)
