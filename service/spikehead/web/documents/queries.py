"""Options in queries, which FastAPI parses by these models."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from spikehead.web.documents.schemas import Part

FigureKind = Literal[
    "spike-trains", "filtered-spike-trains", "decay-kernels", "membrane-potentials", "output-spiking",
    "output-feedback", "attention", "random-spike-trains", "sheet",
]  # fmt: skip
"""The keys of `spikehead.insight.figures.KINDS`, which would import matplotlib; a test compares the two."""

_PART = r" *(all|raster|filtered|potentials|probabilities|feedback|attention|) *"


class QueryPart(Part):
    """Options in a query."""

    @model_validator(mode="before")
    @classmethod
    def _without_empty_ones(cls, given: Any) -> Any:
        """Drop empty options, which a page's form sends for fields without a value."""
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value != "" or name not in cls.model_fields}


class ReplayQuery(QueryPart):
    """Parts of a run to replay."""

    include: str = Field(
        "",
        description="parts, separated by commas: raster, filtered, potentials, probabilities, feedback, attention; "
        "or `all`",
        pattern=rf"^({_PART}(,{_PART})*)?$",
        examples=["potentials,attention"],
    )


class FigureQuery(QueryPart):
    """A figure to draw."""

    kind: FigureKind = Field(description="stage to draw")
    format: Literal["png", "svg"] = Field("png", description="of the file")


TIMES = "ISO 8601 such as 2026-11-25T02:00:00Z; UTC if it has no zone, and + is %2B in a query"

_DATE = re.compile(r"\d{4}-?\d\d-?\d\d([T ].*)?", re.ASCII)
_LOST_PLUS = re.compile(r"(.*[T ][\d:.,]+) (\d\d(:?\d\d){0,2})", re.ASCII)


def _parsed_time(value: Any) -> Any:
    """Parse a time in ISO 8601. Numbers are refused, because their unit is unknown."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise ValueError(f"a time, {TIMES}")
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        lost = _LOST_PLUS.fullmatch(value[:80])
        if lost:
            raise ValueError(f"a time whose + is sent as %2B, as in {lost[1]}%2B{lost[2]}") from None
        raise ValueError(f"a time, {TIMES}") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


Time = Annotated[datetime, BeforeValidator(_parsed_time)]
"""A time with a zone."""


class RecentQuery(QueryPart):
    """Recent requests to list."""

    limit: int = Field(50, ge=1, le=1000, description="most requests to return")
    before: str | None = Field(
        None, pattern="^[0-3][0-9a-f]{39}$", description="the `next` of a page: continue after it"
    )
    model: str | None = Field(None, description="only requests that this model answered")
    prediction: int | None = Field(None, ge=0, le=9, description="only those read as this digit")
    confidence_below: float | None = Field(None, ge=0, le=1, description="only those with a lower confidence")
    steps_at_least: int | None = Field(
        None, ge=1, le=64, description="only those that took at least this number of steps"
    )
    since: Time | None = Field(None, description=f"only those from this time on, {TIMES}")
    until: Time | None = Field(None, description=f"only those up to this time, {TIMES}")
    order: Literal["newest", "confidence"] = Field(
        "newest", description="newest first, or least confident first"
    )


class ForgetQuery(QueryPart):
    """Requests to delete."""

    until: Time = Field(description=f"all up to this time, {TIMES}")


class StatisticsQuery(QueryPart):
    """Requests to count."""

    model: str | None = Field(None, description="the model; default: the service's")
    since: Time | None = Field(None, description=f"from this time on, {TIMES}")
    until: Time | None = Field(None, description=f"up to this time, {TIMES}")
    limit: int = Field(1000, ge=1, le=10_000, description="the number of newest requests to count")
    replays: int = Field(
        32, ge=0, le=200, description="the number of requests to replay, to find silent and saturated neurons"
    )
