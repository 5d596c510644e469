"""The model card: what anyone needs to trust and run an exported network (`models/<name>/card.json`)."""

from __future__ import annotations

import errno
import hashlib
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spikehead.model.encoding import MAX_SLOPE

SCHEMA_VERSION = 1
CARD_FILE = "card.json"
MOST_STEPS = 64


Size = Annotated[int, Field(ge=1, le=2**16)]


class ModelError(RuntimeError):
    """A model folder cannot be used. The message says what was expected and what was found."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _File(_Part):
    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Graph(_File):
    """The file that holds one time step of the network, and its SHA-256."""


class Arrays(_File):
    """The file that holds the network's whole numbers, as the native engine reads them, and its SHA-256."""


class FanOut(_Part):
    """Number of synapses that one neuron of a layer drives.

    In a feature map, neuron (c, y, x) drives `targets * rows[y] * columns[x]`: a convolution's window
    reaches the neurons at the border less often. In a token layer every neuron drives `targets`.
    """

    targets: int = Field(ge=0)
    rows: list[int] | None = None
    columns: list[int] | None = None


class Layer(_Part):
    """A layer of spikes. Layers stand in the order in which a spike travels, `input` first, `output` last."""

    name: str
    shape: list[Size] = Field(
        min_length=1, max_length=3, description="without the batch, for example [32, 14, 14] or [49, 64]"
    )
    fan_out: FanOut
    tau: float | None = Field(None, description="time constant of the membrane, in time steps")
    v_threshold: list[int] | None = Field(None, description="integer threshold of each channel")
    normal_rate: float | None = Field(
        None, description="mean spikes a neuron and step until it stops, validation set"
    )
    normal_rate_std: float | None = Field(None, description="spread of that rate from image to image")

    @property
    def size(self) -> int:
        """Count the neurons."""
        return math.prod(self.shape)


class State(_Part):
    """A tensor that the step graph carries from one time step to the next. It starts at 0, see `Card.begins_anew`."""

    name: str
    shape: list[Size]


class Kernel(_Part):
    """A decay kernel: value * exp(-t / tau), by a shift: decay = 1 - 2**-shift a step."""

    tau: float
    shift: int
    unit: int = Field(description="integer height of one spike; negative where the kernel is negative")
    use: str


class Calibration(_Part):
    """From evidence to probabilities, fitted on the validation set."""

    scale: list[Annotated[float, Field(gt=0, le=1e6)]] = Field(description="one factor a time step")
    confidence: float = Field(gt=0, le=1, description="default confidence to stop at")
    expected_calibration_error: float | None = None


class Spread(_Part):
    """Mean and standard deviation of a figure from image to image, over the validation set."""

    mean: float
    std: float


class Normal(_Part):
    """Normal figures of the pictures that a network was made for, under its stopping rule."""

    brightness: Spread = Field(description="mean grey level of a picture, 0 to 255")
    confidence: Spread


class Card(_Part):
    """Contents of `card.json`."""

    schema_version: int
    name: str
    version: str
    description: str
    licence: str
    graph: Graph
    arrays: Arrays | None = Field(
        None, description="what the native engine reads; null: onnxruntime alone runs the model"
    )
    max_steps: int = Field(ge=1, le=MOST_STEPS)
    layers: list[Layer]
    kind: Literal["spiking", "ann"] = Field(
        "spiking", description="ann: a conventional network on intensities; its 'spikes' are values not 0"
    )
    fixed_multiply_accumulates: int = Field(
        0, ge=0, description="products of a step whose factors are never 0 (an ann's attention)"
    )
    states: list[State]
    rate_slope: int = Field(
        1,
        ge=1,
        le=MAX_SLOPE,
        description="slope of the rate encoder's tuning curve around half contrast; 1: rate = contrast",
    )
    reset_interval: int | None = Field(
        None,
        ge=1,
        le=MOST_STEPS,
        description="time steps after which all states are 0 again, while evidence is summed on; null: never",
    )
    kernels: dict[str, Kernel]
    potential_scale: float = Field(gt=0, le=1e3, description="logits per integer unit of potential")
    calibration: Calibration
    parameters: int
    bits: int
    normal: Normal | None = None
    accuracy: dict[str, Any] = Field(default_factory=dict)
    energy: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Card:
        if self.schema_version != SCHEMA_VERSION:
            raise ValueError(f"expected schema_version {SCHEMA_VERSION}, got {self.schema_version}")
        if len(self.calibration.scale) != self.max_steps:
            raise ValueError(
                f"expected {self.max_steps} calibration scales, one a step, got {len(self.calibration.scale)}"
            )
        if self.layer_names[:1] != ["input"] or self.layer_names[-1:] != ["output"]:
            raise ValueError(f"expected layers from 'input' to 'output', got {self.layer_names}")
        if self.kind == "ann" and self.rate_slope != 1:
            raise ValueError(
                f"expected rate_slope 1 of a conventional network, which has no rates, got {self.rate_slope}"
            )
        if len(set(self.layer_names)) < len(self.layers):
            raise ValueError(f"expected a name for each layer, got {self.layer_names}")
        for layer in self.layers:
            _check_windows(layer)
        return self

    @property
    def layer_names(self) -> list[str]:
        return [layer.name for layer in self.layers]

    def begins_anew(self, t: int) -> bool:
        """Tell if all states are 0 before time step t, which counts from 0."""
        return t == 0 or (self.reset_interval is not None and t % self.reset_interval == 0)

    def layer(self, name: str) -> Layer:
        """Find the layer of that name. Raises KeyError."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)


def _check_windows(layer: Layer) -> None:
    """Check that fan-outs of rows and columns belong to a feature map, one number for each row and column."""
    sides = [layer.fan_out.rows, layer.fan_out.columns]
    if sides == [None, None]:
        return
    if len(layer.shape) != 3 or [len(side or []) for side in sides] != layer.shape[1:]:
        raise ValueError(f"expected fan_out.rows and .columns of {layer.name} to fit its shape {layer.shape}")


def fan_out_map(layer: Layer) -> NDArray[np.float32]:
    """Count the synapses that a spike of each neuron drives, in the shape of the layer."""
    fan_out = layer.fan_out
    if fan_out.rows is None or fan_out.columns is None:
        return np.full(layer.shape, fan_out.targets, np.float32)
    window = np.outer(np.array(fan_out.rows, np.float32), np.array(fan_out.columns, np.float32))
    return np.broadcast_to(fan_out.targets * window, layer.shape).astype(np.float32)


def synapses_of(layer: Layer) -> int:
    """Count the synapses that all neurons of a layer drive together."""
    return int(fan_out_map(layer).sum(dtype=np.float64))


def _content(path: Path) -> bytes:
    """Read a file. Raises OSError if it is something that might be read for ever, as a pipe is."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a file")
    return path.read_bytes()


def load_card(folder: Path) -> Card:
    """Read and check `card.json` and the graph's hash. Raises ModelError with what was expected and found."""
    path = folder / CARD_FILE
    try:
        card = Card.model_validate_json(_content(path))
    except OSError as error:
        raise ModelError(f"expected a model card at {path}, got: {error.strerror}") from error
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in one['loc']) or 'the file'}: {one['msg']}"
            for one in error.errors()
        )
        raise ModelError(f"expected a valid model card at {path}, got: {wrong}") from error
    read_checked(folder, card.graph)
    return card


def read_checked(folder: Path, described: Graph | Arrays) -> bytes:
    """Read a file that a card describes. Raises ModelError unless it is there and has the hash that the card says."""
    path = folder / described.file
    try:
        content = _content(path)
    except OSError as error:
        raise ModelError(
            f"expected the {type(described).__name__.lower()} at {path}, got: {error.strerror}"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != described.sha256:
        raise ModelError(f"expected {path} with sha256 {described.sha256} (from its card), found {found}")
    return content
