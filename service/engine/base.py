"""What simulates: the protocol that every engine follows. Engines give identical spikes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from service.card import Card

Array = NDArray[Any]
SimulationState = dict[str, Array]
"""State tensors by name, each [N, ...]; `initial_state` makes them, `step` returns the next ones."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one time step of N images gave."""

    potential: Array  # [N, 10] membrane potentials of the output neurons, whole numbers
    spike_probability: Array  # [N, 10]
    output_spikes: Array  # [N, 10] {0, 1}
    spikes: dict[str, Array]  # hidden layer -> {0, 1} [N, ...]
    state: SimulationState  # the next step's


class Engine(Protocol):
    """One loaded model, ready to simulate."""

    @property
    def name(self) -> str:
        """Of the engine, as responses quote it."""

    @property
    def card(self) -> Card:
        """Of the model."""

    def initial_state(self, count: int) -> SimulationState:
        """The state of `count` images before their first step: all zero."""

    def step(self, state: SimulationState, spikes: Array, uniforms: Array) -> Step:
        """One time step. spikes float32 {0, 1} [N, 1, 28, 28], uniforms float32 [N, 10]. `state` stays as it is."""
