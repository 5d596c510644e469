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
    """Counts since the last `Totals.take`."""

    steps: list[int]  # [max_steps + 1] images by time steps used
    predictions: list[int]  # [10] images by digit
    spikes: NDArray[np.int64]  # [layers] in the card's order
    operations: NDArray[np.int64]  # [layers] synaptic operations caused by each layer's spikes

    @classmethod
    def nothing(cls, card: Card) -> Sums:
        """Return counts of zero."""
        layers = len(card.layers)
        zeros = np.zeros(layers, np.int64)
        return cls([0] * (card.max_steps + 1), [0] * CLASSES, zeros, zeros.copy())


@dataclass
class Totals:
    """Adds up the work of answers. Safe across threads; adding takes microseconds."""

    card: Card
    _sums: Sums = field(init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._sums = Sums.nothing(self.card)

    def add(self, answers: Sequence[Answer], work: Work) -> None:
        """Add answers to some images, and their work together."""
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
