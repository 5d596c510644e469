"""Options of a classification, with the same names and meanings as over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from spikehead.inference.options import RecordOption
from spikehead.model.encoding import Encoder


class Options(TypedDict, total=False):
    """Options of one request. A missing option, or None, means the model's default."""

    max_steps: int | None  # time steps to simulate at most
    confidence: float | None  # probability of a class at which to stop
    seed: int | None  # of all randomness, from 0 to 2**64 - 1; default: one is drawn
    encoder: Encoder | None  # bernoulli (default) draws spikes at random, regular spaces them evenly
    raster: str | Sequence[str] | None  # layers whose spikes are wanted, or "all"


class ServiceOptions(Options, total=False):
    """Options of a request to a service."""

    record: RecordOption | None  # yes (default) stores the request, required before it is answered, no never


def as_text(options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return options as the names and values of a query."""
    return [
        (name, ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))
        for name, value in options.items()
        if value is not None
    ]
