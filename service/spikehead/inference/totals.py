"""Totals of a model since it was loaded: images, time steps, spikes and synaptic operations."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spikehead.engine.base import Answer, Work
from spikehead.model.card import Card
from spikehead.model.encoding import CLASSES


@dataclass
class Sums:
    """Counts; `Totals.take` gives those since it was asked last."""

    steps: list[int]  # [max_steps + 1] images that stopped after so many
    predictions: list[int]  # [10] images read as so
    spikes: NDArray[np.int64]  # [layers] in the card's order
    operations: NDArray[np.int64]  # [layers] synaptic ones that each layer's spikes caused

    @classmethod
    def nothing(cls, card: Card) -> Sums:
        """All zero."""
        layers = len(card.layers)
        return cls(
            [0] * (card.max_steps + 1),
            [0] * CLASSES,
            np.zeros(layers, np.int64),
            np.zeros(layers, np.int64),
        )


@dataclass
class Totals:
    """Adds up what answers cost. Safe across threads; adding takes microseconds."""

    card: Card
    _sums: Sums = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._sums = Sums.nothing(self.card)

    def add(self, answers: Sequence[Answer], work: Work) -> None:
        """Answers to some images, and what they cost together."""
        with self._lock:
            sums = self._sums
            for answer in answers:
                sums.steps[answer.steps] += 1
                sums.predictions[answer.prediction] += 1
            sums.spikes += work.spikes
            sums.operations += work.operations

    def take(self) -> Sums:
        """Return the counts since the last call."""
        fresh = Sums.nothing(self.card)
        with self._lock:
            taken, self._sums = self._sums, fresh
        return taken
