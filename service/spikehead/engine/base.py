"""What simulates: the protocol that every engine follows. Engines give identical spikes."""

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
    """What is shown to the network: N images, each with the seed of all randomness of its run."""

    images: NDArray[np.uint8]  # [N, 28, 28]
    seeds: Sequence[int]
    encoder: Encoder = "bernoulli"


class Rule(NamedTuple):
    """When to stop: as soon as a class is as probable as `confidence`, after `max_steps` at the latest."""

    max_steps: int
    confidence: float


class Work(NamedTuple):
    """What a run, or several, cost: in the order of the card's layers."""

    spikes: NDArray[np.int64]  # [layers]
    operations: NDArray[np.int64]  # [layers] synaptic operations that each layer's spikes caused


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
    """What each of T steps of N images gave, with no rule to stop them."""

    potentials: NDArray[np.int64]  # [T, N, 10] membrane potentials of the output neurons, integer units
    spikes: dict[str, NDArray[np.int64]]  # layer -> [T, N]
    accumulates: NDArray[np.int64]  # [T, N] additions caused by spikes
    multiply_accumulates: NDArray[np.int64]  # [T, N] products of nonzero filtered pixels with weights


@dataclass(frozen=True, slots=True)
class TimeStep:
    """What one time step of one image gave. What a model does not have is None."""

    spikes: dict[str, Array]  # layer -> {0, 1} uint8, in the layer's shape; "input" and "output" too
    potential: NDArray[np.int64]  # [10] membrane potentials of the output neurons, integer units
    spike_probability: NDArray[np.float64]  # [10]
    traces: NDArray[np.int64] | None  # [28, 28] filtered spike trains, in units of kernel A
    # [10] (B * y), in units of kernel B: what the next step is fed, unless it begins anew
    feedback: NDArray[np.int64] | None


class Answer(NamedTuple):
    """An image's answer as it goes over the wire, and what of it is remembered in columns."""

    json: bytes
    prediction: int
    confidence: float
    steps: int
    stopped_by: str
    encode_ms: float
    simulate_ms: float
    stored: bytes | None = None  # what of `json` is remembered, where that is not all of it


class Engine(Protocol):
    """One loaded model, ready to simulate. Safe to call from several threads."""

    @property
    def name(self) -> str:
        """Of the engine, as responses quote it."""

    @property
    def card(self) -> Card:
        """Of the model."""

    def classify(self, stimulus: Stimulus, rule: Rule, recorded: Sequence[str] = ()) -> list[Outcome]:
        """Encode and simulate each image, in order; keep the spikes of the layers `recorded`.

        An image with a seed has the same outcome alone and in any company, but for its timings.
        """

    def course(self, image: NDArray[np.uint8], seed: int, steps: int, encoder: Encoder) -> Iterator[TimeStep]:
        """Simulate one image uint8 [28, 28], a step each time that the next one is asked for."""

    def by_step(
        self, images: NDArray[np.uint8], seeds: Sequence[int], steps: int, encoder: Encoder
    ) -> StepCounts:
        """Simulate all `steps` of images uint8 [N, 28, 28] and note each step's figures."""


@runtime_checkable
class AnsweringEngine(Protocol):
    """An engine that words answers itself, without a Python object for each number in them."""

    def answers(
        self, stimulus: Stimulus, rule: Rule, ids: Sequence[str], decode_ms: Sequence[float]
    ) -> tuple[list[Answer], Work]:
        """What `Simulator.describe` makes of each outcome, as JSON, with its id; and what all of them cost."""


@dataclass(frozen=True, slots=True)
class BatchStep:
    """What one time step of N images gave."""

    potential: Array  # [N, 10] membrane potentials of the output neurons, whole numbers
    spike_probability: Array  # [N, 10]
    output_spikes: Array  # [N, 10] {0, 1}
    spikes: dict[str, Array]  # hidden layer -> {0, 1} [N, ...]
    state: SimulationState  # the next step's, unless that begins anew


class SteppingEngine(Engine, Protocol):
    """An engine that can be run a time step at a time."""

    def initial_state(self, count: int) -> SimulationState:
        """The state of `count` images where it begins (`Card.begins_anew`): all zero."""

    def step(self, state: SimulationState, spikes: Array, uniforms: Array) -> BatchStep:
        """One time step. spikes float32 {0, 1} [N, 1, 28, 28], uniforms float32 [N, 10]. `state` stays as it is."""
