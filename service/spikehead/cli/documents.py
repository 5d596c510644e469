"""The service's answers, as far as the commands draw them; named as in `spikehead.web.documents.schemas`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from spikehead.model.encoding import CLASSES, SIDE


class Document(BaseModel):
    """Ignores fields that only a newer service has."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


Class = Annotated[int, Field(ge=0, lt=CLASSES)]
Row = Annotated[list[int], Field(min_length=SIDE, max_length=SIDE)]


class SpikeCounts(Document):
    input: int
    layers: dict[str, int]
    output: list[int]


class OperationsByKind(Document):
    accumulates: int
    multiply_accumulates: int


class LayerRaster(Document):
    events: list[tuple[int, int]]  # (t, index)


class Classification(Document):
    model: str
    model_version: str
    engine: str
    prediction: Class
    confidence: float
    class_probabilities: Annotated[list[float], Field(min_length=CLASSES, max_length=CLASSES)]
    spike_counts: SpikeCounts
    steps_used: int
    max_steps: int
    stopped_by: str
    confidence_threshold: float
    seed: int
    encoder: str
    synaptic_operations: int
    synaptic_operations_by_kind: OperationsByKind
    raster: dict[str, LayerRaster] = Field(default_factory=dict)


class RequestSummary(Document):
    id: str
    time: AwareDatetime
    model: str
    prediction: Class
    confidence: float
    steps_used: int


class RequestList(Document):
    """`GET /spikes`."""

    requests: list[RequestSummary]


class StoredRequest(Document):
    """`GET /spikes/{id}`."""

    time: AwareDatetime
    pixels: Annotated[list[Row], Field(min_length=SIDE, max_length=SIDE)]
    answer: Classification
