"""The answers: the fields of the JSON, frozen and typed, the same from `load()` and from `Client`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from spikehead.errors import ServiceError
from spikehead.model.encoding import CLASSES, SIDE

T = TypeVar("T")

Digit = Annotated[int, Field(ge=0, lt=CLASSES)]
Probability = Annotated[float, Field(ge=0, le=1)]
_SIDE = Field(min_length=SIDE, max_length=SIDE)
_OF_EACH_CLASS = Field(min_length=CLASSES, max_length=CLASSES)


@dataclass(frozen=True, slots=True)
class SpikeCounts:
    """Spikes over all time steps that were simulated."""

    input: int
    layers: dict[str, int]  # hidden layers, in the order in which a spike travels
    output: Annotated[tuple[int, ...], _OF_EACH_CLASS]


@dataclass(frozen=True, slots=True)
class OperationsByKind:
    """Synaptic operations: additions that spikes caused, and products of filtered pixels with weights."""

    accumulates: int
    multiply_accumulates: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds: from bytes to pixels, from pixels to spike trains, and from these to the decision."""

    decode: float
    encode: float
    simulate: float


@dataclass(frozen=True, slots=True)
class LayerRaster:
    """Spikes of one layer as address events: (time step from 0, index over the flattened layer), ordered by time."""

    shape: tuple[int, ...]
    events: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer to one picture.

    Two are equal if the same spikes led to them: their ids, engines and timings are not compared.
    """

    model: str
    model_version: str
    engine: str = field(compare=False)
    prediction: Digit
    confidence: Probability  # of the prediction
    class_probabilities: Annotated[tuple[Probability, ...], _OF_EACH_CLASS]
    spike_counts: SpikeCounts
    steps_used: int
    max_steps: int
    stopped_by: Literal["confidence", "max_steps"]
    confidence_threshold: float  # the confidence to stop at
    seed: int  # the one given, else the one drawn
    encoder: Literal["bernoulli", "regular"]
    synaptic_operations: int
    synaptic_operations_by_kind: OperationsByKind
    timings_ms: Timings = field(compare=False)
    raster: dict[str, LayerRaster] | None = None  # only if it was asked for
    id: str = field(default="", compare=False)  # of a service's answer
    recorded: bool = field(default=False, compare=False)  # a service's answer that `Client.spike` knows later


@dataclass(frozen=True, slots=True)
class RequestSummary:
    """A line of a service's list of past requests."""

    id: str
    time: AwareDatetime
    model: str
    model_version: str
    prediction: Digit
    confidence: Probability
    steps_used: int
    stopped_by: Literal["confidence", "max_steps"]
    seed: int


@dataclass(frozen=True, slots=True)
class RequestList:
    """A page of past requests; `next`, given as `before`, gets the one after it."""

    requests: tuple[RequestSummary, ...]
    next: str | None = None


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """One past request: its picture as the network saw it, [28][28] from 0 to 255, and its answer."""

    time: AwareDatetime
    pixels: Annotated[tuple[Annotated[tuple[int, ...], _SIDE], ...], _SIDE]
    answer: Classification


@dataclass(frozen=True, slots=True)
class Batch:
    """The answers to many pictures, in order."""

    results: tuple[Classification, ...]


# made once for each class, when it is first read
_reader: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


def read(kind: type[T], document: bytes | dict[str, Any], source: str = "spikehead") -> T:
    """Read JSON, as text or parsed, as one of these classes. Unknown fields are ignored. Raises ServiceError."""
    reader: TypeAdapter[T] = _reader(kind)
    try:
        if isinstance(document, bytes):
            return reader.validate_json(document)
        return reader.validate_python(document)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the answer"
        received = f"another program's ({where}: {fault['msg']})"
        raise ServiceError(f"expected an answer from {source}, got {received}") from None
