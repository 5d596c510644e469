"""The classifier without HTTP: records that it announces, and the times of its phases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from spikehead.inference.classifier import Classifier
from spikehead.inference.models import Models
from spikehead.inference.simulator import Simulator
from spikehead.records import Filter, Recorder, RecordPage, Store
from spikehead.settings import Settings

from tests.service.conftest import band
from tests.service.ticking import Ticking

RAW = "application/octet-stream"
LONG = 20.0  # seconds; nothing here takes so long unless it is broken


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/records.db")
    yield store
    store.close()


def classifier_of(simulator: Simulator, recorder: Recorder, record: str = "all") -> Classifier:
    return Classifier(Models({"tiny": simulator}, "tiny"), recorder, Settings(record=record))


def answers_to(classifier: Classifier, count: int, query: str = "yes") -> list[dict[str, Any]]:
    """Classify a batch of pictures of raw pixels."""
    body = b"".join(band(number % 10).tobytes() for number in range(count))
    batch = classifier.open_batch(RAW, [("record", query)], body)
    answered = classifier.simulate(batch, classifier.decode(batch, 0), range(count), "mine")
    found: list[dict[str, Any]] = json.loads(b"[" + answered.body + b"]")
    return found


def ids(store: Store) -> list[str]:
    """List the ids of all records, oldest first."""
    return [record.id for record in store.page(Filter(), RecordPage(100))[0]][::-1]


def draw(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """Let samples be drawn by these numbers, over and over."""
    numbers = SimpleNamespace(random=cycle(values).__next__)
    monkeypatch.setattr("spikehead.inference.classifier.random", numbers)


# --------------------------------------------------------------------------------------------------- records


def test_a_sample_is_what_is_drawn_under_the_share(
    simulator: Simulator, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.01 of the numbers from 0 to 1, exclusive, are under 0.01; both in batches and alone."""
    draw(monkeypatch, 0.0, 0.5, 0.0099, 0.01, 0.99)
    recorder = Recorder(store)
    classifier = classifier_of(simulator, recorder, "sample:0.01")
    answers = answers_to(classifier, 5)
    answers += [json.loads(classifier.classify(RAW, [], band(number).tobytes()).body) for number in range(5)]
    recorder.close(LONG)
    assert [answer["recorded"] for answer in answers] == [True, False, True, False, False] * 2
    assert ids(store) == [answer["id"] for answer in answers if answer["recorded"]]


@pytest.mark.parametrize("record", ["all", "sample:0.5"])
def test_what_is_dropped_is_not_recorded(
    simulator: Simulator, store: Store, record: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue of two has no room for three records, ever: none of them is taken."""
    draw(monkeypatch, 0.0)
    recorder = Recorder(store, most_waiting=2)
    classifier = classifier_of(simulator, recorder, record)
    assert [answer["recorded"] for answer in answers_to(classifier, 3)] == [False] * 3
    assert recorder.state.dropped == 3
    kept = answers_to(classifier, 2)
    assert [answer["recorded"] for answer in kept] == [True] * 2
    recorder.close(LONG)
    assert ids(store) == [answer["id"] for answer in kept]
    late = json.loads(classifier.classify(RAW, [], band(3).tobytes()).body)
    assert late["recorded"] is False  # a recorder that is closed takes nothing
    assert (recorder.state.written, recorder.state.dropped) == (2, 4)


# ------------------------------------------------------------------------------------------------ phase times


def test_a_batch_of_pixels_shares_the_time_of_its_decoding(
    simulator: Simulator, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(store)
    classifier = classifier_of(simulator, recorder)
    batch = classifier.open_batch(RAW, [], np.stack([band(digit) for digit in range(8)]).tobytes())
    monkeypatch.setattr("spikehead.inference.classifier.time", Ticking())
    assert classifier.decode(batch, 0).decode_ms == [125.0] * 8
    recorder.close(LONG)
