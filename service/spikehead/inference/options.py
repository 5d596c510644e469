"""Options of a classification: parsed from text (a query, a form) or JSON values, checked against the model's card."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from spikehead.errors import Problem
from spikehead.model.card import Card
from spikehead.model.encoding import ENCODERS, MAX_SEED, Encoder

DRAWN_SEED_BITS = 53
"""Seeds that the service draws are exact in JavaScript's numbers."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,25}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")

RecordOption = Literal["yes", "no", "required"]
RECORD_OPTIONS: tuple[RecordOption, ...] = ("yes", "no", "required")
"""Store the request, do not, or answer only when the record is on disk."""

OnError = Literal["fail", "report"]
ON_ERROR: tuple[OnError, ...] = ("fail", "report")
"""If a picture of a batch cannot be used: one problem for the whole batch, or one in place of its result."""


@dataclass(frozen=True)
class Options:
    """The options of a request, complete: every default is filled in."""

    max_steps: int
    confidence: float
    seed: int
    encoder: Encoder = "bernoulli"
    raster: tuple[str, ...] = ()  # layers in the card's order; none: no raster
    record: RecordOption = "yes"


Given = dict[str, list[Any]]
"""Values of each option: one from the query, one from the body."""


def quoted(value: Any) -> str:
    """Quote a value for a problem, in at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _invalid(name: str, expected: str, value: Any) -> Problem:
    return Problem("invalid-option", f"{name}: {expected}", quoted(value))


def _whole(name: str, value: Any, low: int, high: int, expected: str) -> int:
    number = value
    # in JSON, 7.0 is a whole number too
    if (isinstance(value, float) and value.is_integer()) or (
        isinstance(value, str) and _WHOLE.fullmatch(value)
    ):
        number = int(value)
    if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
        raise _invalid(name, expected, value)
    return number


def _max_steps(value: Any, card: Card) -> int:
    return _whole("max_steps", value, 1, card.max_steps, f"a whole number from 1 to {card.max_steps}")


def _seed(value: Any, card: Card) -> int:
    return _whole("seed", value, 0, MAX_SEED, "a whole number from 0 to 2**64 - 1")


def _confidence(value: Any, card: Card) -> float:
    number = math.nan
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        number = float(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        number = value
    if not 0 < number <= 1:
        raise _invalid("confidence", "a number above 0, at most 1", value)
    return float(number)


def _encoder(value: Any, card: Card) -> Encoder:
    for name in ENCODERS:
        if value == name:
            return name
    raise _invalid("encoder", f"one of {', '.join(ENCODERS)}", value)


def _record(value: Any, card: Card) -> RecordOption:
    for name in RECORD_OPTIONS:
        if value == name:
            return name
    raise _invalid("record", f"one of {', '.join(RECORD_OPTIONS)}", value)


def _raster(value: Any, card: Card) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _invalid("raster", "layer names, separated by commas", value)
    layers = card.layer_names
    wanted = [name.strip() for name in names]
    for name in wanted:
        if name not in layers and name not in ("all", ""):
            raise Problem(
                "unknown-layer", f"raster: layers among {', '.join(['all', *layers])}", quoted(name)
            )
    return tuple(layers) if "all" in wanted else tuple(name for name in layers if name in wanted)


_PARSERS: dict[str, Callable[[Any, Card], Any]] = {
    "max_steps": _max_steps,
    "confidence": _confidence,
    "seed": _seed,
    "encoder": _encoder,
    "raster": _raster,
    "record": _record,
}
OPTION_NAMES = ("model", *_PARSERS)
BATCH_OPTION_NAMES = (*OPTION_NAMES, "on_error")


def collect(
    text: Iterable[tuple[str, str]], body: Mapping[str, Any], names: Sequence[str] = OPTION_NAMES
) -> Given:
    """Collect all values of each option, from a query or a form and from JSON. Raises Problem for an unknown name.

    Empty texts count as not given, because a page's form sends all of its fields.
    """
    given: Given = {}
    for values, may_be_empty in ((text, False), (body.items(), True)):
        for name, value in values:
            if name not in names:
                raise Problem("unknown-option", f"one of {', '.join(names)}", quoted(name))
            if value != "" or may_be_empty:
                given.setdefault(name, []).append(value)
    return given


def _agreed(name: str, values: list[Any], parsed: list[Any]) -> Any:
    if any(value != parsed[0] for value in parsed[1:]):
        raise Problem("conflicting-option", f"one value of {name}", " and ".join(map(quoted, values[:3])))
    return parsed[0]


def model_name(given: Given, default: str) -> str:
    """Return the name of the model to use. Raises Problem if two are named."""
    values = given.get("model", [default])
    for value in values:
        if not isinstance(value, str):
            raise _invalid("model", "a name", value)
    return str(_agreed("model", values, values))


def on_error(given: Given) -> OnError:
    """Return the option `on_error`. Raises Problem."""
    values = given.get("on_error", ["fail"])
    for value in values:
        if value not in ON_ERROR:
            raise _invalid("on_error", f"one of {', '.join(ON_ERROR)}", value)
    found: OnError = _agreed("on_error", values, values)
    return found


def parse(given: Given, card: Card) -> Options:
    """Check options and fill in the card's defaults; a missing seed is drawn. Raises Problem."""
    values: dict[str, Any] = {"max_steps": card.max_steps, "confidence": card.calibration.confidence}
    for name, parser in _PARSERS.items():
        if name in given:
            values[name] = _agreed(name, given[name], [parser(value, card) for value in given[name]])
    if "seed" not in values:
        values["seed"] = random.getrandbits(DRAWN_SEED_BITS)
    return Options(**values)
