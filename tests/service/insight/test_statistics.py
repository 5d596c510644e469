"""Statistics of a window: figures by hand, drift, silent and saturated neurons."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from spikehead.inference.simulator import Simulator
from spikehead.insight.statistics import DRIFT, LEAST, SATURATED, Neurons, neurons_of, statistics
from spikehead.model.card import Card, Normal, Spread
from spikehead.records import Record

from tests.service.conftest import MAX_STEPS, band


def answer(
    steps: int = 2,
    hidden: int = 4,
    prediction: int = 3,
    confidence: float = 0.9,
    max_steps: int = MAX_STEPS,
    encoder: str = "bernoulli",
) -> dict[str, Any]:
    output = [0] * 10
    output[prediction] = steps
    return {
        "prediction": prediction,
        "confidence": confidence,
        "steps_used": steps,
        "stopped_by": "confidence",
        "encoder": encoder,
        "max_steps": max_steps,
        "confidence_threshold": 0.9,
        "spike_counts": {"input": 32 * steps, "layers": {"hidden": hidden}, "output": output},
        "synaptic_operations_by_kind": {"accumulates": 100, "multiply_accumulates": 10},
    }


def record(number: int = 0, image: np.ndarray | None = None, **values: Any) -> Record:
    found = answer(**values)
    return Record(
        id=f"{number:024x}",
        time=1e9 + number,
        model="tiny",
        model_version="1.2.3",
        image=(band(3) if image is None else image).tobytes(),
        seed=number,
        prediction=found["prediction"],
        confidence=found["confidence"],
        steps_used=found["steps_used"],
        stopped_by=found["stopped_by"],
        answer=json.dumps(found).encode(),
    )


def with_normal(card: Card, rate: float, spread: float) -> Card:
    layers = [
        layer.model_copy(update={"normal_rate": rate, "normal_rate_std": spread})
        if layer.name == "hidden"
        else layer
        for layer in card.layers
    ]
    return card.model_copy(update={"layers": layers})


def test_figures_by_hand(simulator: Simulator) -> None:
    records = [
        record(0, steps=1, hidden=1, prediction=3, confidence=0.8),
        record(1, steps=3, hidden=9, prediction=5, confidence=1.0),
    ]
    found = statistics(records, with_normal(simulator.card, 0.1, 0.05), {"hidden": Neurons(7, 1)})
    hidden = found["layers"][1]
    rate = (1 / 10 + 9 / 30) / 2
    assert hidden == {
        "name": "hidden",
        "firing_rate": pytest.approx(rate),
        "normal_rate": 0.1,
        "z": pytest.approx((rate - 0.1) / 0.05),
        "drift": False,  # too few requests to say
        "neurons": 10,
        "silent": 7,
        "saturated": 1,
    }
    rest = {name: value for name, value in found.items() if name != "layers"}
    assert rest == {
        "model": "tiny",
        "model_version": "1.2.3",
        "requests": 2,
        "predictions": [0, 0, 0, 1, 0, 1, 0, 0, 0, 0],
        "steps": [1, 0, 1, 0],
        "mean_steps": 2.0,
        "mean_confidence": pytest.approx(0.9),
        "stopped_by_confidence": 2,
        "synaptic_operations": {"accumulates": 100.0, "multiply_accumulates": 10.0},
        "energy_nj": pytest.approx((100 * 0.03 + 10 * 0.23) / 1000),
        "compared": 2,
        "drift": False,
        "drifting_layers": [],
        "drift_reasons": [],
    }
    assert found["layers"][0]["firing_rate"] == pytest.approx(32 / 784)
    assert found["layers"][2]["firing_rate"] == pytest.approx(1 / 10)


@pytest.mark.parametrize(
    ("count", "hidden", "drift"),
    [(LEAST, 8, True), (LEAST - 1, 8, False), (LEAST, 2, False), (LEAST, 0, False)],
)
def test_drift(simulator: Simulator, count: int, hidden: int, drift: bool) -> None:
    # two steps of ten neurons: hidden / 20; normal 0.1 with a spread of 0.1
    card = with_normal(simulator.card, 0.1, 0.1)
    found = statistics([record(i, hidden=hidden) for i in range(count)], card)
    assert abs((hidden / 20 - 0.1) / 0.1) != DRIFT
    assert (found["drift"], found["drifting_layers"]) == (drift, ["hidden"] if drift else [])


@pytest.mark.parametrize("unusual", [{"max_steps": 3}, {"encoder": "regular"}])
def test_requests_that_ask_for_other_than_usual_are_not_compared(
    simulator: Simulator, unusual: dict[str, Any]
) -> None:
    """Other steps, or evenly spaced spikes, have other rates on the same pictures."""
    card = with_normal(simulator.card, 0.1, 0.1)
    drifting = [record(i, hidden=8) for i in range(LEAST - 1)]
    found = statistics([*drifting, record(99, hidden=8, **unusual)], card)
    assert (found["requests"], found["compared"], found["drift"]) == (LEAST, LEAST - 1, False)
    assert found["layers"][1]["z"] == pytest.approx(3.0)
    assert found["layers"][1]["firing_rate"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("image", "confidence", "reasons"),
    [
        (band(3), 0.9, []),
        (255 - band(3), 0.9, ["brightness"]),
        (band(3), 0.75, ["confidence"]),
        (band(3), 1.0, []),  # surer than usual is no drift
        (np.zeros((28, 28), np.uint8), 0.5, ["brightness", "confidence"]),
    ],
)
def test_pictures_and_answers_as_a_whole(
    simulator: Simulator, image: np.ndarray, confidence: float, reasons: list[str]
) -> None:
    grey = float(band(3).mean())
    normal = Normal(brightness=Spread(mean=grey, std=grey / 2.5), confidence=Spread(mean=0.9, std=0.1))
    card = simulator.card.model_copy(update={"normal": normal})
    records = [record(i, image=image, confidence=confidence) for i in range(LEAST)]
    found = statistics(records, card)
    assert (found["drift"], found["drift_reasons"]) == (bool(reasons), reasons)
    assert statistics(records[1:], card)["drift"] is False  # too few to say


@pytest.mark.parametrize("hidden", [0, 10])
def test_a_rate_is_unlike_only_beyond_its_bound(simulator: Simulator, hidden: int) -> None:
    """Two steps of ten neurons: a rate of 0 or 0.5 is 0.25 from normal, just `DRIFT` times an eighth."""
    records = [record(i, hidden=hidden) for i in range(LEAST)]
    at, beyond = (statistics(records, with_normal(simulator.card, 0.25, spread)) for spread in (0.125, 0.124))
    assert abs(at["layers"][1]["z"]) == DRIFT
    assert (at["drifting_layers"], beyond["drifting_layers"]) == ([], ["hidden"])


@pytest.mark.parametrize("level", [32, 96])
def test_brightness_is_unlike_only_beyond_its_bound(simulator: Simulator, level: int) -> None:
    """A grey level of 32 or 96 is 32 from normal, just `DRIFT` times 16."""
    records = [record(i, image=np.full((28, 28), level, np.uint8)) for i in range(LEAST)]
    for spread, reasons in ((16.0, []), (15.9, ["brightness"])):
        normal = Normal(brightness=Spread(mean=64, std=spread), confidence=Spread(mean=0.9, std=1))
        card = simulator.card.model_copy(update={"normal": normal})
        assert statistics(records, card)["drift_reasons"] == reasons


def test_confidence_is_unlike_only_beyond_its_bound(simulator: Simulator) -> None:
    """A confidence of 0.75 is an eighth from normal, just `UNSURE` times an eighth."""
    records = [record(i, confidence=0.75) for i in range(LEAST)]
    grey = float(band(3).mean())
    for spread, reasons in ((0.125, []), (0.124, ["confidence"])):
        normal = Normal(brightness=Spread(mean=grey, std=1), confidence=Spread(mean=0.875, std=spread))
        card = simulator.card.model_copy(update={"normal": normal})
        assert statistics(records, card)["drift_reasons"] == reasons


def test_an_empty_window(simulator: Simulator) -> None:
    found = statistics([], simulator.card)
    assert (found["requests"], found["mean_steps"], found["energy_nj"]) == (0, None, None)
    assert (found["predictions"], found["steps"], found["drift"]) == ([0] * 10, [0] * 4, False)


def test_silent_and_saturated_neurons(simulator: Simulator) -> None:
    # the picture lights one hidden neuron at every step: nine are silent, one is saturated
    found = neurons_of([record(i, steps=4) for i in range(3)], simulator.engine)
    assert found["hidden"] == Neurons(silent=9, saturated=1)
    assert found["input"].silent == 784 - 32
    assert neurons_of([], simulator.engine) == {}


@pytest.mark.parametrize(("spikes", "saturated"), [(19, 0), (20, 1)])
def test_a_neuron_is_saturated_only_beyond_its_bound(
    simulator: Simulator, spikes: int, saturated: int
) -> None:
    """In 20 steps, 19 are just `SATURATED`: the others show another digit, whose neuron spikes then."""
    assert SATURATED * 20 == 19
    steps = [(3, 4)] * 4 + [(3, spikes - 16), (8, 20 - spikes)]
    shown = [record(i, image=band(digit), steps=count) for i, (digit, count) in enumerate(steps) if count]
    found = neurons_of(shown, simulator.engine)["hidden"]
    assert (found.silent, found.saturated) == (8 if spikes < 20 else 9, saturated)
