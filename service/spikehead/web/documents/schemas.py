"""What goes over the wire, for the OpenAPI document: fields, their meaning, and examples.

Answers are not validated by these models while serving (that would cost more than the simulation); the tests
hold every answer against them.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from spikehead.errors import KINDS, Problem
from spikehead.inference.options import OnError, RecordOption
from spikehead.model.card import Card
from spikehead.model.encoding import MAX_SEED, Encoder

Probability = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Count = Annotated[int, Field(ge=0)]
FigureKind = Literal[
    "spike-trains",
    "filtered-spike-trains",
    "decay-kernels",
    "membrane-potentials",
    "output-spiking",
    "output-feedback",
    "attention",
    "random-spike-trains",
    "sheet",
]
"""The keys of `spikehead.insight.figures.KINDS`, which needs matplotlib to be imported; a test holds them together."""


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ClassifyOptions(Part):
    """Options of a classification, in the query, in the JSON body or as form fields."""

    model: str | None = Field(
        None, description="Model that answers; see `GET /models`. Default: the service's."
    )
    max_steps: int | None = Field(
        None, ge=1, le=64, description="Time steps to simulate at the most. Default and largest: the model's."
    )
    confidence: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Stop as soon as one class has this probability. Default: the model's.",
    )
    seed: Seed | None = Field(
        None,
        description="Seed of all randomness, a 64-bit number. The same image and seed give the same spikes.",
    )
    encoder: Encoder | None = Field(
        None, description="`bernoulli` (default) draws spikes at random, `regular` spaces them evenly."
    )
    raster: str | None = Field(
        None,
        description="Layers whose spikes are wanted, separated by commas: `input`, `output`, ... or `all`.",
    )

    record: RecordOption | None = Field(
        None,
        description="`yes` (default) remembers the request soon, `required` before it is answered, `no` not at all.",
    )


class BatchOptions(ClassifyOptions):
    """Options of a batch."""

    on_error: OnError | None = Field(
        None,
        description="`fail` (default): a picture that cannot be used is an error for all; `report`: its result is the "
        "problem, and the others are answered.",
    )


class SpikeCounts(Part):
    """Spikes over all steps simulated."""

    input: Count
    layers: dict[str, Count] = Field(description="hidden layers, in the order in which a spike travels")
    output: list[Count] = Field(min_length=10, max_length=10, description="of each class")


class OperationsByKind(Part):
    accumulates: Count = Field(description="additions that spikes caused")
    multiply_accumulates: Count = Field(description="products of filtered input pixels with weights")


class Timings(Part):
    """Milliseconds. In a batch, encoding and simulation are shared by the images simulated together."""

    decode: float = Field(ge=0, description="from the body's bytes to 28 x 28 pixels")
    encode: float = Field(ge=0, description="from pixels to spike trains")
    simulate: float = Field(ge=0, description="from spike trains to the decision")


class LayerRaster(Part):
    """Spikes of one layer as address events."""

    shape: list[int]
    events: list[Annotated[list[int], Field(min_length=2, max_length=2)]] = Field(
        description="`[t, index]`: time step from 0, index over the flattened layer; ordered by time"
    )


class Classification(Part):
    """The answer to one picture."""

    id: str = Field(description="of this answer; see `GET /spikes/{id}`")
    model: str
    model_version: str
    engine: str = Field(description="what simulated")
    prediction: int = Field(ge=0, le=9)
    confidence: Probability = Field(description="probability of the prediction")
    class_probabilities: list[Probability] = Field(min_length=10, max_length=10)
    spike_counts: SpikeCounts
    steps_used: int = Field(ge=1)
    max_steps: int = Field(ge=1)
    stopped_by: Literal["confidence", "max_steps"]
    confidence_threshold: Probability = Field(description="the confidence to stop at")
    seed: Seed = Field(description="the one given, else the one drawn (below 2**53)")
    encoder: Encoder
    synaptic_operations: Count = Field(description="additions and products together")
    synaptic_operations_by_kind: OperationsByKind
    timings_ms: Timings
    raster: dict[str, LayerRaster] | None = Field(None, description="only where it was asked for")
    recorded: bool = Field(description="whether `GET /spikes/{id}` will know it")


class ProblemDocument(Part):
    """RFC 9457."""

    type: str = Field(description="stable: a program can rely on it")
    title: str
    status: int
    detail: str
    expected: str
    received: str
    request_id: str = Field(description="also in the header X-Request-ID, and in the log")
    image: int | None = Field(None, description="which picture of a batch, counted from 0")
    filename: str | None = Field(None, description="of that picture, if it came as a file with a name")


class BatchAnswer(Classification):
    """The answer to one of many pictures."""

    filename: str | None = Field(None, description="of the picture, if it came as a file with a name")


class BatchResult(Part):
    results: list[BatchAnswer | ProblemDocument] = Field(
        description="one a picture, in order; with `on_error=report` a problem in place of each that cannot be used"
    )


class RequestSummary(Part):
    """A recent classification."""

    id: str
    time: str = Field(description="when it was answered, ISO 8601, UTC")
    model: str
    model_version: str
    prediction: int
    confidence: Probability
    steps_used: int
    stopped_by: Literal["confidence", "max_steps"]
    seed: Seed


class RequestList(Part):
    requests: list[RequestSummary] = Field(description="newest first")
    next: str | None = Field(description="give it as `before` to get the next page; null on the last one")


Numbers = list[float]


class ReplayVerdict(Part):
    equal: bool = Field(description="whether the replay is what was recorded: prediction, steps, counts")
    differences: list[str] = Field(description="what is not")


class Probabilities(Part):
    """[T][10] each."""

    spike: list[Numbers] = Field(description="of a spike of each output neuron")
    class_: list[Numbers] = Field(alias="class", description="of each class, after each step")


class StoredRequest(Part):
    """A recent classification with everything that it returned; with `include`, what its replay shows."""

    time: str
    pixels: list[list[int]] = Field(description="28 x 28, the picture as the network saw it")
    answer: Classification
    replay: ReplayVerdict | None = Field(None, description="only with `include`, as all that follows")
    contrast: list[list[int]] | None = Field(None, description="28 x 28, what the retina makes of the pixels")
    raster: dict[str, LayerRaster] | None = Field(None, description="of every layer")
    filtered: list[list[Numbers]] | None = Field(
        None, description="[T][28][28] filtered spike trains (kernel A), in spikes"
    )
    potentials: list[Numbers] | None = Field(
        None, description="[T][10] membrane potentials of the output neurons, in logits"
    )
    probabilities: Probabilities | None = None
    feedback: list[Numbers] | None = Field(
        None,
        description="[T][10] output spikes through kernel B, in spikes: what the next step is fed, unless the model's "
        "state begins anew there (`reset_interval` of its card)",
    )
    attention: dict[str, list[list[Numbers]]] | None = Field(
        None, description="block to [T][heads][49]: how often each token's keys met queries"
    )


_PART = r" *(all|raster|filtered|potentials|probabilities|feedback|attention|) *"


class QueryPart(Part):
    """Options in a query."""

    @model_validator(mode="before")
    @classmethod
    def _without_empty_ones(cls, given: Any) -> Any:
        """A page's form sends all of its fields: what is empty was not given."""
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value != "" or name not in cls.model_fields}


class ReplayQuery(QueryPart):
    """What to replay."""

    include: str = Field(
        "",
        description="parts, separated by commas: raster, filtered, potentials, probabilities, feedback, attention; "
        "or `all`",
        pattern=rf"^({_PART}(,{_PART})*)?$",
        examples=["potentials,attention"],
    )


class FigureQuery(QueryPart):
    """Which figure."""

    kind: FigureKind = Field(description="stage to draw")
    format: Literal["png", "svg"] = Field("png", description="of the file")


TIMES = "ISO 8601 such as 2026-11-25T02:00:00Z; UTC where no zone is given, and + is %2B in a query"

_DATE = re.compile(r"\d{4}-?\d\d-?\d\d([T ].*)?", re.ASCII)
_LOST_PLUS = re.compile(r"(.*[T ][\d:.,]+) (\d\d(:?\d\d){0,2})", re.ASCII)


def _moment(value: Any) -> Any:
    """A time as ISO 8601 writes it, and not as a number, which may mean anything."""
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


TimeStep = Annotated[datetime, BeforeValidator(_moment)]
"""A time with a zone."""


class RecentQuery(QueryPart):
    """Which recent requests."""

    limit: int = Field(50, ge=1, le=1000, description="most requests to return")
    before: str | None = Field(
        None, pattern="^[0-3][0-9a-f]{39}$", description="the `next` of a page: go on after it"
    )
    model: str | None = Field(None, description="only requests that this model answered")
    prediction: int | None = Field(None, ge=0, le=9, description="only those read as this digit")
    confidence_below: float | None = Field(None, ge=0, le=1, description="only those less sure than this")
    steps_at_least: int | None = Field(None, ge=1, le=64, description="only those that took so many steps")
    since: TimeStep | None = Field(None, description=f"only those from this time on, {TIMES}")
    until: TimeStep | None = Field(None, description=f"only those up to this time, {TIMES}")
    order: Literal["newest", "confidence"] = Field(
        "newest", description="newest first, or least confident first"
    )


class ForgetQuery(QueryPart):
    """Which requests to forget."""

    until: TimeStep = Field(description=f"all up to this time, {TIMES}")


class Forgotten(Part):
    deleted: Count


class StatisticsQuery(QueryPart):
    """Which requests to look at."""

    model: str | None = Field(None, description="of which model; default: the service's")
    since: TimeStep | None = Field(None, description=f"from this time on, {TIMES}")
    until: TimeStep | None = Field(None, description=f"up to this time, {TIMES}")
    limit: int = Field(1000, ge=1, le=10_000, description="the newest so many")
    replays: int = Field(
        32, ge=0, le=200, description="so many are replayed, to find silent and saturated neurons"
    )


class LayerStatistics(Part):
    name: str
    firing_rate: float | None = Field(description="spikes a neuron and step, mean over requests")
    normal_rate: float | None = Field(description="the same on the validation set, from the card")
    z: float | None = Field(description="how many times the usual spread between images they are apart")
    drift: bool
    neurons: Count
    silent: int | None = Field(description="neurons that never spiked in the replays")
    saturated: int | None = Field(description="neurons that spiked at nearly every step")


class MeanOperations(Part):
    accumulates: float | None
    multiply_accumulates: float | None


class Statistics(Part):
    """Figures of a window of requests."""

    model: str
    model_version: str
    requests: Count
    predictions: list[Count] = Field(description="how often each digit was read")
    steps: list[Count] = Field(description="how many requests took 1, 2, ... steps")
    mean_steps: float | None
    mean_confidence: float | None
    stopped_by_confidence: Count
    synaptic_operations: MeanOperations = Field(description="of an image on average")
    energy_nj: float | None = Field(description="of an image on average: 8-bit operations at 45 nm, alone")
    layers: list[LayerStatistics]
    compared: Count = Field(
        description="requests under the model's own stopping rule and rate encoder: those that `z` and drift are about"
    )
    drift: bool = Field(description="whether the pictures are unlike those that the network was made for")
    drifting_layers: list[str] = Field(description="layers that fire unlike on the validation set")
    drift_reasons: list[str] = Field(description="what drifts, in words: layers, confidence, brightness")


class ModelSummary(Part):
    name: str
    version: str
    description: str
    engine: str
    max_steps: int
    confidence: Probability = Field(description="default confidence to stop at")
    layers: list[str] = Field(description="in the order in which a spike travels")


class ModelList(Part):
    default: str
    models: list[ModelSummary]


class ModelCard(Part):
    """A model and what simulates it."""

    engine: str
    card: Card


class Live(Part):
    status: Literal["alive"]


class ReadyModel(Part):
    name: str
    version: str
    engine: str


class RecordsState(Part):
    status: Literal["ok", "degraded"]
    reason: str | None = Field(description="why records cannot be written")
    waiting: Count = Field(description="records that wait to be written")
    dropped: Count = Field(description="records that were lost since the start")


class Ready(Part):
    status: Literal["ready", "degraded"] = Field(
        description="degraded: it classifies, and does not remember, or not with the newest models"
    )
    models: list[ReadyModel]
    refused_models: str | None = Field(description="why the newest version of the models does not answer")
    records: RecordsState


class ProblemType(Part):
    """What a kind of problem means."""

    type: str
    title: str
    status: int
    cause: str = Field(description="what has happened, and why")
    remedy: str = Field(description="what to do about it")
    example: ProblemDocument


ID = "18a5c0d2f3b4e6a1c2d3e4f5"
TIME = "2026-11-24T15:17:27.123Z"

CLASSIFICATION: dict[str, Any] = {
    "id": ID,
    "model": "spiking-mha",
    "model_version": "1.0.0",
    "engine": "onnxruntime",
    "prediction": 7,
    "confidence": 0.9968,
    "class_probabilities": [0.0001, 0.0002, 0.0008, 0.0006, 0.0001, 0.0001, 0.0, 0.9968, 0.0001, 0.0012],
    "spike_counts": {
        "input": 89,
        "layers": {"stem1": 489, "stem2": 457, "tokens": 168},
        "output": [0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
    },
    "steps_used": 1,
    "max_steps": 16,
    "stopped_by": "confidence",
    "confidence_threshold": 0.75,
    "seed": 7,
    "encoder": "bernoulli",
    "synaptic_operations": 285744,
    "synaptic_operations_by_kind": {"accumulates": 262544, "multiply_accumulates": 23200},
    "timings_ms": {"decode": 0.1012, "encode": 0.2511, "simulate": 0.4403},
    "raster": {"output": {"shape": [10], "events": [[0, 7]]}},
    "recorded": True,
}
BATCH = {
    "results": [
        {name: value for name, value in CLASSIFICATION.items() if name != "raster"} | {"filename": "7.png"},
        Problem("blank-image", KINDS["blank-image"].expected, KINDS["blank-image"].received).document(ID)
        | {"image": 1, "filename": "empty.png"},
    ]
}
SUMMARY = {
    "id": ID,
    "time": TIME,
    "model": "spiking-mha",
    "model_version": "1.0.0",
    "prediction": 7,
    "confidence": 0.9968,
    "steps_used": 1,
    "stopped_by": "confidence",
    "seed": 7,
}
REQUESTS = {"requests": [SUMMARY], "next": ID}


def _seven() -> list[list[int]]:
    """A seven of straight strokes, 28 x 28."""
    rows = [[0] * 28 for _ in range(28)]
    for row in range(5, 8):
        rows[row][8:20] = [255] * 12
    for row in range(8, 24):
        left = 18 - (row - 8) // 2
        rows[row][left : left + 3] = [255] * 3
    return rows


PIXELS = _seven()
PNG_BASE64 = (
    "iVBORw0KGgoAAAANSUhEUgAAABwAAAAcCAAAAABXZoBIAAAAQElEQVR42mNgGGSAEcb4j0WQCZ9OJqKMRYD/cFESjf1ProOQNJKmE1kjSTpR"
    "NJKiE1UjCTrRNBKvE10jfp0DAQAZPwklKSb92AAAAABJRU5ErkJggg=="
)
STORED = {
    "time": TIME,
    "pixels": PIXELS,
    "answer": {name: value for name, value in CLASSIFICATION.items() if name != "raster"},
}
STATISTICS: dict[str, Any] = {
    "model": "spiking-mha",
    "model_version": "1.0.0",
    "requests": 128,
    "predictions": [10, 14, 12, 12, 12, 11, 12, 13, 12, 12],
    "steps": [96, 12, 6, 3, 1, 1, 0, 1],
    "mean_steps": 1.4,
    "mean_confidence": 0.991,
    "stopped_by_confidence": 119,
    "synaptic_operations": {"accumulates": 404498.0, "multiply_accumulates": 30245.0},
    "energy_nj": 19.1,
    "layers": [
        {
            "name": "tokens",
            "firing_rate": 0.031,
            "normal_rate": 0.03,
            "z": 0.1,
            "drift": False,
            "neurons": 4704,
            "silent": 812,
            "saturated": 0,
        }
    ],
    "compared": 128,
    "drift": False,
    "drifting_layers": [],
    "drift_reasons": [],
}
MODELS = {
    "default": "spiking-mha",
    "models": [
        {
            "name": "spiking-mha",
            "version": "1.0.0",
            "description": "Spiking network with multi-head self-attention.",
            "engine": "onnxruntime",
            "max_steps": 16,
            "confidence": 0.75,
            "layers": ["input", "stem1", "stem2", "tokens", "output"],
        }
    ],
}
READY = {
    "status": "ready",
    "models": [{"name": "spiking-mha", "version": "1.0.0", "engine": "onnxruntime"}],
    "refused_models": None,
    "records": {"status": "ok", "reason": None, "waiting": 0, "dropped": 0},
}
MODEL_CARD = {
    "engine": "onnxruntime",
    "card": {
        "schema_version": 1,
        "name": "spiking-mha",
        "version": "1.0.0",
        "description": "Spiking network with multi-head self-attention.",
        "licence": "Apache-2.0",
        "graph": {"file": "model.onnx", "sha256": "5e" * 32},
        "arrays": {"file": "arrays.safetensors", "sha256": "a5" * 32},
        "max_steps": 2,
        "layers": [
            {
                "name": "input",
                "shape": [1, 28, 28],
                "fan_out": {"targets": 32, "rows": [2] * 28, "columns": [2] * 28},
                "tau": None,
                "v_threshold": None,
                "normal_rate": 0.1257,
                "normal_rate_std": 0.0379,
            },
            {
                "name": "output",
                "shape": [10],
                "fan_out": {"targets": 10, "rows": None, "columns": None},
                "tau": None,
                "v_threshold": None,
                "normal_rate": 0.09,
                "normal_rate_std": 0.02,
            },
        ],
        "rate_slope": 1,
        "reset_interval": None,
        "states": [{"name": "state.input", "shape": [1, 28, 28]}],
        "kernels": {"A": {"tau": 1.4427, "shift": 1, "unit": 16, "use": "filtered spike trains"}},
        "potential_scale": 0.00372,
        "calibration": {"scale": [1.25, 0.55], "confidence": 0.75, "expected_calibration_error": 0.004},
        "parameters": 127540,
        "bits": 8,
        "accuracy": {},
        "energy": {},
        "training": {},
    },
}
LIVE = {"status": "alive"}
