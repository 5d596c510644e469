"""Schemas of bodies and answers for the OpenAPI document.

The service does not validate its answers by them (which would cost more than the simulation), but the tests do.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from spikehead.inference.options import OnError, RecordOption
from spikehead.model.card import Card
from spikehead.model.encoding import MAX_SEED, Encoder

Probability = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Count = Annotated[int, Field(ge=0)]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ClassifyOptions(Part):
    """Options of a classification, in the query, in the JSON body or as form fields."""

    model: str | None = Field(None, description="Model to use; see `GET /models`. Default: the service's.")
    max_steps: int | None = Field(
        None, ge=1, le=64, description="Most time steps to simulate. Default and maximum: the model's."
    )
    confidence: float | None = Field(
        None, gt=0, le=1, description="Stop as soon as one class has this probability. Default: the model's."
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
        description="Layers whose spikes to return, separated by commas: `input`, `output`, ... or `all`.",
    )

    record: RecordOption | None = Field(
        None,
        description="`yes` (default) stores the request soon, `required` before the answer is sent, `no` not at all.",
    )


class BatchOptions(ClassifyOptions):
    """Options of a batch."""

    on_error: OnError | None = Field(
        None,
        description="`fail` (default): a picture that cannot be used is an error for the whole batch; `report`: its "
        "result is the problem, and the others are answered.",
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
    engine: str = Field(description="engine that simulated")
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
    raster: dict[str, LayerRaster] | None = Field(None, description="only if the request asked for it")
    recorded: bool = Field(description="true if `GET /spikes/{id}` will find it")


class ProblemDocument(Part):
    """RFC 9457."""

    type: str = Field(description="stable across versions")
    title: str
    status: int
    detail: str
    expected: str
    received: str
    request_id: str = Field(description="also in the header X-Request-ID, and in the log")
    image: int | None = Field(None, description="number of the picture in a batch, from 0")
    filename: str | None = Field(None, description="of that picture, if it came as a file with a name")


class BatchAnswer(Classification):
    """The answer to one of many pictures."""

    filename: str | None = Field(None, description="of the picture, if it came as a file with a name")


class BatchResult(Part):
    results: list[BatchAnswer | ProblemDocument] = Field(
        description="one for each picture, in order; with `on_error=report`, a problem for each that cannot be used"
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
    next: str | None = Field(description="the `before` of the next page; null on the last one")


Numbers = list[float]


class ReplayVerdict(Part):
    equal: bool = Field(description="true if the replay equals the record in prediction, steps and counts")
    differences: list[str] = Field(description="values that differ")


class Probabilities(Part):
    """[T][10] each."""

    spike: list[Numbers] = Field(description="of a spike of each output neuron")
    class_: list[Numbers] = Field(alias="class", description="of each class, after each step")


class StoredRequest(Part):
    """A recent classification with its answer, and with `include` the parts of its replay."""

    time: str
    pixels: list[list[int]] = Field(description="28 x 28, the picture as the network saw it")
    answer: Classification
    replay: ReplayVerdict | None = Field(None, description="only with `include`, like all that follows")
    contrast: list[list[int]] | None = Field(None, description="28 x 28, the retina's output for the pixels")
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
        description="[T][10] output spikes through kernel B, in spikes: an input of the next step, unless the model's "
        "state is reset there (`reset_interval` of its card)",
    )
    attention: dict[str, list[list[Numbers]]] | None = Field(
        None, description="block to [T][heads][49]: how often each token's keys met queries"
    )


class Forgotten(Part):
    deleted: Count


class LayerStatistics(Part):
    name: str
    firing_rate: float | None = Field(description="spikes per neuron and step, mean over requests")
    normal_rate: float | None = Field(description="the same on the validation set, from the card")
    z: float | None = Field(description="their distance, in usual spreads between images")
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
    energy_nj: float | None = Field(
        description="of an image on average: 8-bit operations at 45 nm, arithmetic alone"
    )
    layers: list[LayerStatistics]
    compared: Count = Field(
        description="requests with the model's own stopping rule and rate encoder, from which `z` and drift come"
    )
    drift: bool = Field(description="true if the pictures are unlike those for which the network was trained")
    drifting_layers: list[str] = Field(
        description="layers whose firing rate differs from the validation set's"
    )
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
    """A model and its engine."""

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
    dropped: Count = Field(description="records lost since the start")


class Ready(Part):
    status: Literal["ready", "degraded"] = Field(
        description="degraded: it classifies, but cannot store records, or does not use the newest models"
    )
    models: list[ReadyModel]
    refused_models: str | None = Field(description="why the newest version of the models is not used")
    records: RecordsState


class ProblemType(Part):
    """The meaning of a kind of problem."""

    type: str
    title: str
    status: int
    cause: str = Field(description="what happened, and why")
    remedy: str = Field(description="what to do about it")
    example: ProblemDocument
