"""The protocol that every engine follows, and what goes in and comes out. Engines give identical spikes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from spikehead.model.card import Card
from spikehead.model.encoding import Encoder

Array = NDArray[Any]
SimulationState = dict[str, Array]
"""State tensors by name, each [N, ...]; `initial_state` makes them, `step` returns the next ones."""


class Stimulus(NamedTuple):
    """N images to show to the network, each with the seed of all randomness of its run."""

    images: NDArray[np.uint8]  # [N, 28, 28]
    seeds: Sequence[int]
    encoder: Encoder = "bernoulli"


class Rule(NamedTuple):
    """Stop as soon as a class is as probable as `confidence`, after `max_steps` at the latest."""

    max_steps: int
    confidence: float


class Work(NamedTuple):
    """The cost of one run or of several, in the order of the card's layers."""

    spikes: NDArray[np.int64]  # [layers]
    operations: NDArray[np.int64]  # [layers] synaptic operations caused by each layer's spikes


class Outcome(Protocol):
    """One image's run."""

    recorded: dict[str, Array]
    """layer -> {0, 1} [T, *shape]"""

    @property
    def steps(self) -> int: ...
    @property
    def stopped_by(self) -> str:
        """`confidence` or `max_steps`."""

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """[10]"""

    @property
    def output_counts(self) -> NDArray[np.int64]:
        """[10]"""

    @property
    def counts(self) -> dict[str, int]:
        """layer -> spikes"""

    @property
    def work(self) -> Work: ...
    @property
    def accumulates(self) -> int: ...
    @property
    def multiply_accumulates(self) -> int: ...
    @property
    def encode_ms(self) -> float: ...
    @property
    def simulate_ms(self) -> float: ...


@dataclass(frozen=True, slots=True)
class StepCounts:
    """The figures of each of T steps of N images, with no rule to stop them."""

    potentials: NDArray[np.int64]  # [T, N, 10] membrane potentials of the output neurons, integer units
    spikes: dict[str, NDArray[np.int64]]  # layer -> [T, N]
    accumulates: NDArray[np.int64]  # [T, N] additions caused by spikes
    multiply_accumulates: NDArray[np.int64]  # [T, N] products of nonzero filtered pixels with weights


@dataclass(frozen=True, slots=True)
class TimeStep:
    """All values of one time step of one image. A field is None if the model has nothing of the kind."""

    spikes: dict[str, Array]  # layer -> {0, 1} uint8, in the layer's shape; "input" and "output" too
    potential: NDArray[np.int64]  # [10] membrane potentials of the output neurons, integer units
    spike_probability: NDArray[np.float64]  # [10]
    traces: NDArray[np.int64] | None  # [28, 28] filtered spike trains, in units of kernel A
    # [10] (B * y), in units of kernel B: input of the next step, unless the state begins anew there
    feedback: NDArray[np.int64] | None


class Answer(NamedTuple):
    """An image's answer as it goes over the wire, and the parts of it that records keep in columns."""

    json: bytes
    prediction: int
    confidence: float
    steps: int
    stopped_by: str
    encode_ms: float
    simulate_ms: float
    # the part of `json` that is recorded, if that is not all of it
    stored: bytes | None = None


class Engine(Protocol):
    """One loaded model, ready to simulate. Safe to call from several threads."""

    @property
    def name(self) -> str:
        """The engine's name, as responses quote it."""

    @property
    def card(self) -> Card:
        """The model's card."""

    def classify(self, stimulus: Stimulus, rule: Rule, recorded: Sequence[str] = ()) -> list[Outcome]:
        """Encode and simulate each image, in order; keep the spikes of the layers `recorded`.

        An image with a seed has the same outcome alone and in any batch, but for its timings.
        """

    def course(self, image: NDArray[np.uint8], seed: int, steps: int, encoder: Encoder) -> Iterator[TimeStep]:
        """Simulate one image uint8 [28, 28], one step for each value that is taken."""

    def by_step(
        self, images: NDArray[np.uint8], seeds: Sequence[int], steps: int, encoder: Encoder
    ) -> StepCounts:
        """Simulate all `steps` of images uint8 [N, 28, 28] and note each step's figures."""


@runtime_checkable
class AnsweringEngine(Protocol):
    """An engine that writes answers as JSON itself, without a Python object for each number in them."""

    def answers(
        self, stimulus: Stimulus, rule: Rule, ids: Sequence[str], decode_ms: Sequence[float]
    ) -> tuple[list[Answer], Work]:
        """Classify each image; return its answer, as `Simulator.describe` words it, and the cost of all."""


@dataclass(frozen=True, slots=True)
class BatchStep:
    """All values of one time step of N images."""

    potential: Array  # [N, 10] membrane potentials of the output neurons, whole numbers
    spike_probability: Array  # [N, 10]
    output_spikes: Array  # [N, 10] {0, 1}
    spikes: dict[str, Array]  # hidden layer -> {0, 1} [N, ...]
    state: SimulationState  # for the next step, unless the state begins anew there


class SteppingEngine(Engine, Protocol):
    """An engine that can be run a time step at a time."""

    def initial_state(self, count: int) -> SimulationState:
        """Make the state of `count` images in which a run begins (`Card.begins_anew`): all zero."""

    def step(self, state: SimulationState, spikes: Array, uniforms: Array) -> BatchStep:
        """Simulate one time step. spikes float32 {0, 1} [N, 1, 28, 28], uniforms float32 [N, 10].

        `state` stays as it is.
        """
