"""Simulation by hand on the tiny model, and company: an image's answer does not depend on the others."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic_core import from_json
from spikehead.engine.base import Outcome, Rule, Stimulus
from spikehead.engine.onnxruntime import OnnxruntimeEngine
from spikehead.inference.options import Options
from spikehead.inference.simulator import Simulator, seeds_of_batch
from spikehead.web.documents.schemas import Classification

from tests.service.conftest import MAX_STEPS, band
from tests.service.ticking import Ticking

ZERO = [0.0]


def classify(
    simulator: Simulator, images: list[np.ndarray], seeds: list[int], options: Options
) -> list[dict[str, Any]]:
    return list(simulator.classify(np.stack(images), seeds, options, ZERO * len(images)))


def test_phases_one_by_one(simulator: Simulator) -> None:
    options = Options(max_steps=2, confidence=1.0, seed=7)
    (outcome,) = simulator.engine.classify(Stimulus(band(3)[None], [7]), Rule(2, 1.0))
    assert (outcome.steps, outcome.stopped_by) == (2, "max_steps")
    assert outcome.counts == {"input": 64, "hidden": 2, "output": int(outcome.output_counts.sum())}
    assert outcome.accumulates == 20  # each hidden spike drives 10 synapses
    assert outcome.multiply_accumulates == 64  # each lit pixel's trace drives 1
    assert simulator.describe(outcome, 7, options, 1.0)["prediction"] == 3


def test_stops_as_soon_as_it_is_sure(simulator: Simulator) -> None:
    # evidence +4 for the right class, -4 for the nine others: softmax of 0.5 * 0.25 * 8 = 1 between them
    expected = np.e / (np.e + 9)
    options = Options(max_steps=4, confidence=expected - 1e-9, seed=0)
    (answer,) = classify(simulator, [band(5)], [0], options)
    assert answer["steps_used"] == 1 and answer["stopped_by"] == "confidence"
    assert answer["confidence"] == pytest.approx(expected, abs=1e-12)
    assert answer["class_probabilities"][5] == answer["confidence"]
    assert sum(answer["class_probabilities"]) == pytest.approx(1, abs=1e-12)
    (answer,) = classify(simulator, [band(5)], [0], Options(max_steps=4, confidence=expected + 1e-6, seed=0))
    assert answer["steps_used"] > 1


def test_the_last_step_can_be_sure_too(simulator: Simulator) -> None:
    (answer,) = classify(simulator, [band(5)], [0], Options(max_steps=1, confidence=0.1, seed=0))
    assert (answer["steps_used"], answer["stopped_by"]) == (1, "confidence")
    (answer,) = classify(simulator, [band(5)], [0], Options(max_steps=1, confidence=0.9, seed=0))
    assert (answer["steps_used"], answer["stopped_by"]) == (1, "max_steps")


def test_whole_answer(simulator: Simulator) -> None:
    options = Options(
        max_steps=2, confidence=1.0, seed=0, encoder="regular", raster=("input", "hidden", "output")
    )
    (answer,) = classify(simulator, [band(0)], [9], options)
    timings = answer.pop("timings_ms")
    assert list(timings) == ["decode", "encode", "simulate"] and timings["decode"] == 0
    probabilities, output = answer.pop("class_probabilities"), answer["raster"].pop("output")
    assert answer.pop("confidence") == max(probabilities) == probabilities[0]
    counts = answer["spike_counts"].pop("output")
    assert output["shape"] == [10]
    assert counts == [sum(index == k for _, index in output["events"]) for k in range(10)]
    lit = np.flatnonzero(band(0).reshape(-1)).tolist()
    assert answer == {
        "model": "tiny",
        "model_version": "1.2.3",
        "engine": "onnxruntime",
        "prediction": 0,
        "spike_counts": {"input": 64, "layers": {"hidden": 2}},
        "steps_used": 2,
        "max_steps": 2,
        "stopped_by": "max_steps",
        "confidence_threshold": 1.0,
        "seed": 9,
        "encoder": "regular",
        "synaptic_operations": 84,
        "synaptic_operations_by_kind": {"accumulates": 20, "multiply_accumulates": 64},
        "raster": {
            "input": {"shape": [1, 28, 28], "events": [[t, index] for t in (0, 1) for index in lit]},
            "hidden": {"shape": [10], "events": [[0, 0], [1, 0]]},
        },
    }


def test_a_tie_goes_to_the_lowest_class(simulator: Simulator) -> None:
    (answer,) = classify(
        simulator, [np.maximum(band(4), band(8))], [0], Options(max_steps=1, confidence=1.0, seed=0)
    )
    assert answer["prediction"] == 4
    assert answer["class_probabilities"][4] == answer["class_probabilities"][8]


def test_seeds_of_a_batch_wrap_around() -> None:
    assert seeds_of_batch(2**64 - 2, 4) == [2**64 - 2, 2**64 - 1, 0, 1]


def _without_timings(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in answer.items() if name != "timings_ms"} for answer in answers]


def test_an_image_alone_and_in_company(simulator: Simulator) -> None:
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (28, 28)).astype(np.uint8) for _ in range(20)] + [
        band(k) for k in range(10)
    ]
    seeds = seeds_of_batch(2**64 - 5, len(images))
    options = Options(max_steps=4, confidence=0.3, seed=0, raster=("input", "hidden", "output"))
    together = _without_timings(classify(simulator, images, seeds, options))
    assert len({answer["steps_used"] for answer in together}) > 1  # they leave at different steps
    alone = [
        _without_timings(classify(simulator, [i], [s], options))[0]
        for i, s in zip(images, seeds, strict=True)
    ]
    assert together == alone


def test_another_seed_gives_other_spikes(simulator: Simulator) -> None:
    options = Options(max_steps=4, confidence=1.0, seed=0, raster=("input",))
    grey = np.full((28, 28), 0, np.uint8)
    grey[8:20, 8:20] = 200
    grey[8:14, 8:14] = 120
    first, second, again = classify(simulator, [grey] * 3, [1, 2, 1], options)
    assert first["raster"] != second["raster"]
    assert first["raster"] == again["raster"]


def test_answers_fit_the_documented_schema(simulator: Simulator) -> None:
    for raster in ((), ("output",)):
        (answer,) = classify(
            simulator, [band(1)], [3], Options(max_steps=4, confidence=0.9, seed=3, raster=raster)
        )
        Classification.model_validate({"id": "x", **answer, "recorded": False}, strict=True)


@pytest.mark.parametrize("confidence", [0.6, 0.9], ids=["one look", "several looks"])
def test_shipped_model_gives_the_same_alone_and_in_company(shipped: Simulator, confidence: float) -> None:
    random = np.random.default_rng(1)
    images = [random.integers(0, 256, (28, 28)).astype(np.uint8) // 2 for _ in range(6)] + [
        band(k) for k in range(10)
    ]
    seeds = seeds_of_batch(99, len(images))
    options = Options(shipped.card.max_steps, confidence, 0, raster=tuple(shipped.card.layer_names))
    together = _without_timings(classify(shipped, images, seeds, options))
    alone = [
        _without_timings(classify(shipped, [i], [s], options))[0] for i, s in zip(images, seeds, strict=True)
    ]
    assert together == alone
    steps = {answer["steps_used"] for answer in together}
    assert len(steps) > 1 and (max(steps) > (shipped.card.reset_interval or 0) or confidence == 0.6)
    for answer in together:
        recorded = {name: len(raster["events"]) for name, raster in answer["raster"].items()}
        counts = answer["spike_counts"]
        assert recorded == {"input": counts["input"], **counts["layers"], "output": sum(counts["output"])}


def test_warm_up_simulates_a_drawing_alone_and_in_company_and_counts_nothing(models_folder: Path) -> None:
    """All steps of it, on the engine itself, as requests do: none of it is an answer that somebody asked for."""
    ran: list[tuple[Stimulus, Rule, list[Outcome]]] = []

    class Watched(OnnxruntimeEngine):
        def classify(self, stimulus: Stimulus, rule: Rule, recorded: Sequence[str] = ()) -> list[Outcome]:
            ran.append((stimulus, rule, super().classify(stimulus, rule, recorded)))
            return ran[-1][2]

    simulator = Simulator(Watched(models_folder / "tiny"))
    simulator.warm_up()
    assert [len(stimulus.images) for stimulus, _, _ in ran] == [1, 2]
    for stimulus, rule, outcomes in ran:
        assert rule == Rule(MAX_STEPS, 1.0)
        assert [outcome.steps for outcome in outcomes] == [MAX_STEPS] * len(stimulus.images)
        assert all(outcome.counts["input"] > 0 for outcome in outcomes)  # a picture with ink on it
    totals = simulator.totals.take()
    assert not any(totals.steps) and not totals.spikes.any() and not totals.operations.any()


def test_images_of_a_batch_share_the_time_of_its_phases(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encoding and simulating eight images take a second each."""
    monkeypatch.setattr("spikehead.engine.stepping.time", Ticking())
    options = Options(max_steps=2, confidence=1.0, seed=0)
    answers = classify(simulator, [band(digit) for digit in range(8)], list(range(8)), options)
    assert [answer["timings_ms"] for answer in answers] == [
        {"decode": 0.0, "encode": 125.0, "simulate": 125.0}
    ] * 8


@pytest.mark.parametrize("raster", [(), ("output",)], ids=["worded by the engine", "with a raster"])
def test_totals_are_what_the_answers_say(shipped: Simulator, raster: tuple[str, ...]) -> None:
    pictures = np.stack([band(k) for k in range(10)])
    options = Options(shipped.card.max_steps, 0.6, 0, raster=raster)
    shipped.totals.take()
    answers = [
        from_json(answer.json)
        for answer in shipped.answers(pictures, range(10), options, [0.0] * 10, ["x"] * 10)
    ]
    sums = shipped.totals.take()
    steps, predictions = ([answer[name] for answer in answers] for name in ("steps_used", "prediction"))
    assert sums.steps == np.bincount(steps, minlength=shipped.card.max_steps + 1).tolist()
    assert sums.predictions == np.bincount(predictions, minlength=10).tolist()
    kinds = [answer["synaptic_operations_by_kind"] for answer in answers]
    assert sums.operations[0] == sum(kind["multiply_accumulates"] for kind in kinds)
    assert sums.operations[1:].sum() == sum(kind["accumulates"] for kind in kinds)
    for index, name in enumerate(shipped.card.layer_names[1:-1], 1):
        assert sums.spikes[index] == sum(answer["spike_counts"]["layers"][name] for answer in answers)
    assert not any(shipped.totals.take().steps)
