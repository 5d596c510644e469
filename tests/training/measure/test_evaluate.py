"""Evaluation: what is measured on an exported model agrees with the service and with counting by hand."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from spikehead.engine import native, stepping
from spikehead.engine.base import Array, BatchStep, Engine, SimulationState, StepCounts, Stimulus
from spikehead.engine.onnxruntime import OnnxruntimeEngine
from spikehead.inference.options import Options
from spikehead.inference.simulator import Simulator
from spikehead.model.card import Card
from spikehead.model.encoding import Encoder
from spikehead.model.synaptic_operations import SynapticOperations

from tests.training.conftest import EXPORT_STEPS, Exported, make_glm, write_checkpoint
from training.data.distortions import DISTORTIONS, distorted
from training.data.mnist import Variation, vary
from training.export.artifact import export
from training.measure.evaluate import (
    SEED_STRIDE,
    _spread,
    evaluate,
    handwriting,
    probabilities_of,
    rewritten,
    robustness,
    simulate,
    stopped_answers,
    stopping_accuracy,
    synapse_noise,
    unseen_writers,
)
from training.measure.synapse_noise import write_perturbed

Drawn = tuple[NDArray[np.uint8], NDArray[np.int64]]


def same(one: StepCounts, other: StepCounts) -> bool:
    return (
        np.array_equal(one.potentials, other.potentials)
        and all(np.array_equal(one.spikes[name], other.spikes[name]) for name in one.spikes)
        and np.array_equal(one.accumulates, other.accumulates)
        and np.array_equal(one.multiply_accumulates, other.multiply_accumulates)
    )


def test_shapes_and_layers(exported: Exported, drawn: Drawn) -> None:
    trial = simulate(exported.engine, drawn[0][:7], 0, 3)
    assert trial.potentials.shape == (3, 7, 10) and trial.potentials.dtype == np.int64
    assert list(trial.spikes) == exported.card.layer_names
    assert {counts.shape for counts in trial.spikes.values()} == {(3, 7)}
    assert trial.accumulates.shape == trial.multiply_accumulates.shape == (3, 7)


@pytest.mark.parametrize("chunk", [1, 4, 7])
def test_chunks_do_not_change_an_image(
    chunk: int, exported: Exported, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = simulate(exported.engine, drawn[0][:7], 3, 3)
    done: list[int] = []
    monkeypatch.setattr("training.measure.evaluate.CHUNK", chunk)
    assert same(simulate(exported.engine, drawn[0][:7], 3, 3, progress=done.append), whole)
    assert done == [*range(chunk, 7, chunk), 7]


def test_images_and_steps_that_come_later_change_nothing(exported: Exported, drawn: Drawn) -> None:
    whole, part = simulate(exported.engine, drawn[0][:9], 3, 4), simulate(exported.engine, drawn[0][:5], 3, 2)
    assert np.array_equal(whole.potentials[:2, :5], part.potentials)
    assert np.array_equal(whole.accumulates[:2, :5], part.accumulates)


def test_every_image_and_every_seed_has_spike_trains_of_its_own(exported: Exported, drawn: Drawn) -> None:
    twins = np.repeat(drawn[0][:1], 3, axis=0)
    one, other = (simulate(exported.engine, twins, seed, 2) for seed in (0, 1))
    runs = [tuple(trial.potentials[:, i].ravel().tolist()) for trial in (one, other) for i in range(3)]
    assert len(set(runs)) == 6


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
def test_image_i_runs_as_the_service_runs_it_with_its_seed(
    order: list[int], exported: Exported, drawn: Drawn
) -> None:
    """Seed s * 1,000,000 + i, in any order and company."""
    assert SEED_STRIDE == 1_000_000
    trial = simulate(exported.engine, drawn[0][:4], 2, EXPORT_STEPS)
    options = Options(EXPORT_STEPS, confidence=2.0, seed=0)  # never sure enough
    seeds = [2_000_000 + i for i in order]
    answers = Simulator(exported.engine).classify(drawn[0][order], seeds, options, [0.0] * 4)
    for i, answer in zip(order, answers, strict=True):
        counts = {name: int(spikes[:, i].sum()) for name, spikes in trial.spikes.items()}
        found = answer["spike_counts"]
        assert {"input": found["input"], **found["layers"], "output": sum(found["output"])} == counts
        assert answer["synaptic_operations_by_kind"] == {
            "accumulates": trial.accumulates[:, i].sum(),
            "multiply_accumulates": trial.multiply_accumulates[:, i].sum(),
        }
        assert answer["class_probabilities"] == probabilities_of(exported.card, trial)[-1, i].tolist()


def test_regular_spike_trains_are_the_same_for_every_seed(exported: Exported, drawn: Drawn) -> None:
    one, other = (simulate(exported.engine, drawn[0][:3], seed, 3, encoder="regular") for seed in (0, 1))
    assert np.array_equal(one.spikes["input"], other.spikes["input"])
    assert np.array_equal(one.spikes["stem1"], other.spikes["stem1"])


# Figures, from potentials given by hand


class Scripted:
    """The part of an engine that evaluation uses, with potentials [images, T, 10] that are written down.

    Each step, image i puts i + 1 spikes into `hidden`. `state.input` counts the steps in its first pixel.
    """

    name = "scripted"

    def __init__(self, card: Card, potentials: NDArray[np.int64]) -> None:
        self.card, self.potentials = card, potentials

    def initial_state(self, count: int) -> SimulationState:
        return {"state.input": np.zeros((count, 1, 28, 28), np.float32)}

    def step(self, state: SimulationState, spikes: Array, uniforms: Array) -> BatchStep:
        traces = state["state.input"].copy()
        t = int(traces[0, 0, 0, 0])
        traces[:, 0, 0, 0] += 1
        hidden = np.zeros((len(traces), 4), np.float32)
        for i in range(len(traces)):
            hidden[i, : i + 1] = 1
        zero = np.zeros((len(traces), 10), np.float32)
        return BatchStep(self.potentials[:, t], zero, zero, {"hidden": hidden}, {"state.input": traces})

    def by_step(
        self, images: NDArray[np.uint8], seeds: Sequence[int], steps: int, encoder: Encoder
    ) -> StepCounts:
        engine: Any = self
        return stepping.by_step(
            engine, SynapticOperations(self.card), Stimulus(images, seeds, encoder), steps
        )


def scripted_card(exported: Exported, confidence: float, steps: int) -> Card:
    """Input of 784, four hidden neurons with a fan-out of 5, ten outputs; one unit is one logit."""
    layers = [
        {"name": "input", "shape": [1, 28, 28], "fan_out": {"targets": 2}},
        {"name": "hidden", "shape": [4], "fan_out": {"targets": 5}},
        {"name": "output", "shape": [10], "fan_out": {"targets": 1}},
    ]
    calibration = {"scale": [1.0] * steps, "confidence": confidence}
    changed = {
        "layers": layers, "calibration": calibration, "max_steps": steps, "potential_scale": 1.0
    }  # fmt: skip
    return Card.model_validate({**exported.card.model_dump(), **changed})


@pytest.fixture
def scripted(exported: Exported) -> Callable[[float], Any]:
    """Three images, two steps: image 0 is sure of 3 at once, image 1 says 5, then 4, image 2 says 8 twice."""
    potentials = np.zeros((3, 2, 10), np.int64)
    potentials[0, :, 3] = 9
    potentials[1, 0, 5], potentials[1, 1, 4] = 1, 3
    potentials[2, :, 8] = 3
    return lambda confidence: Scripted(scripted_card(exported, confidence, 2), potentials)


LABELS = np.array([3, 4, 0])
BLANK = np.zeros((3, 28, 28), np.uint8)


def test_accuracy_by_step_by_hand(scripted: Callable[[float], Any]) -> None:
    """Right: image 0 after one step, images 0 and 1 after two. Image 2 never is."""
    result = evaluate(scripted(1.0), BLANK, LABELS, seeds=2)
    assert result["accuracy_by_step"] == [
        {"steps": 1, "mean": pytest.approx(1 / 3), "std": 0.0},
        {"steps": 2, "mean": pytest.approx(2 / 3), "std": 0.0},
    ]


def test_evidence_is_summed_over_the_steps(exported: Exported) -> None:
    """The last potential says 1, their sum says 0."""
    potentials = np.zeros((1, 2, 10), np.int64)
    potentials[0, 0, 0], potentials[0, 1, 1] = 5, 2
    engine: Any = Scripted(scripted_card(exported, 1.0, 2), potentials)
    result = evaluate(engine, BLANK[:1], np.array([0]), seeds=1)
    assert [row["mean"] for row in result["accuracy_by_step"]] == [1.0, 1.0]


def test_stopping_by_hand(scripted: Callable[[float], Any]) -> None:
    """At 0.6, image 0 (e^9 to 9) and image 2 (e^3 to 9: 0.69) stop after one step, image 1 (e to 9) does not."""
    result = evaluate(scripted(0.6), BLANK, LABELS, seeds=3)
    assert result["stopping"]["confidence"] == 0.6
    assert result["stopping"]["steps"] == {"mean": pytest.approx(4 / 3), "std": pytest.approx(0.0)}
    assert result["stopping"]["accuracy"]["mean"] == pytest.approx(2 / 3)
    surely, wrongly = np.exp(9) / (np.exp(9) + 9), np.exp(3) / (np.exp(3) + 9)
    late = np.exp(3) / (np.exp(3) + np.exp(1) + 8)
    gaps = (1 - surely) + (1 - late) + wrongly  # three confidences, in three bins
    assert result["stopping"]["expected_calibration_error"]["mean"] == pytest.approx(gaps / 3)


def test_what_other_confidences_would_give_by_hand(
    scripted: Callable[[float], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the model's own is. At 0.6 as above; at 0.2 all stop at once; at 0.9 image 0 alone does."""
    monkeypatch.setattr("training.measure.evaluate.CONFIDENCES", (0.2, 0.6, 0.9))
    result = evaluate(scripted(1.0), BLANK, LABELS, seeds=2)
    # Image i has i + 1 spikes a step, each with 5 synapses.
    assert result["by_confidence"] == [
        {
            "confidence": 0.2,
            "accuracy": pytest.approx(1 / 3),
            "steps": 1.0,
            "accumulates": pytest.approx(6 * 5 / 3),
        },
        {
            "confidence": 0.6,
            "accuracy": pytest.approx(2 / 3),
            "steps": pytest.approx(4 / 3),
            "accumulates": pytest.approx(8 * 5 / 3),
        },
        {
            "confidence": 0.9,
            "accuracy": pytest.approx(2 / 3),
            "steps": pytest.approx(5 / 3),
            "accumulates": pytest.approx(11 * 5 / 3),
        },
    ]


def test_where_there_is_one_step_no_confidence_matters(exported: Exported) -> None:
    engine: Any = Scripted(scripted_card(exported, 1.0, 1), np.zeros((3, 1, 10), np.int64))
    assert evaluate(engine, BLANK, LABELS, seeds=1)["by_confidence"] == []


def test_only_the_steps_that_ran_are_counted(scripted: Callable[[float], Any]) -> None:
    """Images 0 and 2 run one step with 1 and 3 hidden spikes, image 1 two steps with 2 each: 8 spikes in 4 steps."""
    result = evaluate(scripted(0.6), BLANK, LABELS, seeds=1)
    assert result["firing_rate"] == {"input": 0.0, "hidden": pytest.approx(8 / 4 / 4), "output": 0.0}
    assert result["mean_firing_rate"] == {
        "over_layers": pytest.approx(0.5), "over_neurons": pytest.approx(0.5)
    }  # fmt: skip
    assert result["synaptic_operations"] == {
        "accumulates": pytest.approx(8 * 5 / 3), "multiply_accumulates": pytest.approx(4 * 2 / 3)
    }  # fmt: skip


def test_confusion_has_true_digits_as_rows(scripted: Callable[[float], Any]) -> None:
    result = evaluate(scripted(0.6), BLANK, LABELS, seeds=2)
    expected = np.zeros((10, 10), int)
    expected[3, 3], expected[4, 4], expected[0, 8] = 2, 2, 2
    assert result["confusion"] == expected.tolist()


# Figures of a real network


def test_figures_of_an_exported_model(exported: Exported, drawn: Drawn) -> None:
    done: list[int] = []
    result = evaluate(exported.engine, drawn[0][:12], drawn[1][:12], seeds=3, progress=done.append)
    assert json.loads(json.dumps(result)) == result
    assert (result["model"], result["version"]) == ("small", "1.0.0")
    assert (result["images"], result["seeds"]) == (12, 3)
    assert [row["steps"] for row in result["accuracy_by_step"]] == [1, 2, 3, 4]
    assert list(result["firing_rate"]) == exported.card.layer_names
    assert all(0.0 <= rate <= 1.0 for rate in result["firing_rate"].values())
    assert 1.0 <= result["stopping"]["steps"]["mean"] <= 4.0
    assert int(np.sum(result["confusion"])) == 3 * 12
    assert np.sum(result["confusion"], axis=1).tolist() == [
        3 * n for n in np.bincount(drawn[1][:12], minlength=10)
    ]
    assert done == [12, 24, 36]


def test_mean_rates_weigh_layers_and_neurons(exported: Exported, drawn: Drawn) -> None:
    result = evaluate(exported.engine, drawn[0][:6], drawn[1][:6], seeds=1)
    inner = exported.card.layers[1:-1]
    rates = np.array([result["firing_rate"][layer.name] for layer in inner])
    neurons = np.array([np.prod(layer.shape) for layer in inner])
    assert result["mean_firing_rate"]["over_layers"] == pytest.approx(rates.mean())
    assert result["mean_firing_rate"]["over_neurons"] == pytest.approx(
        (rates * neurons).sum() / neurons.sum()
    )
    assert rates.mean() != pytest.approx((rates * neurons).sum() / neurons.sum(), rel=1e-3)


def test_accuracy_and_steps_follow_from_the_trials(exported: Exported, drawn: Drawn) -> None:
    """As the service would answer: seeds s * 1,000,000 + i, stopping at the card's confidence."""
    images, labels = drawn[0][:10], drawn[1][:10]
    result = evaluate(exported.engine, images, labels, seeds=2)
    steps, right = [], []
    options = Options(EXPORT_STEPS, exported.card.calibration.confidence, seed=0)
    for seed in range(2):
        seeds = [seed * 1_000_000 + i for i in range(10)]
        answers = list(Simulator(exported.engine).classify(images, seeds, options, [0.0] * 10))
        steps.append([answer["steps_used"] for answer in answers])
        right.append([answer["prediction"] == label for answer, label in zip(answers, labels, strict=True)])
    assert result["stopping"]["steps"]["mean"] == pytest.approx(np.mean(steps))
    assert result["stopping"]["accuracy"]["mean"] == pytest.approx(np.mean(right))


def test_probabilities_of_a_trial_by_hand(scripted: Callable[[float], Any]) -> None:
    """Softmax of the evidence so far: of image 1, e to 9 for digit 5, then e and e^3 to 8 for 5 and 4."""
    engine = scripted(1.0)
    found = probabilities_of(engine.card, simulate(engine, BLANK, 0, 2))
    assert found.shape == (2, 3, 10)
    first = np.full(10, 1 / (np.e + 9))
    first[5] *= np.e
    second = np.full(10, 1 / (np.e + np.e**3 + 8))
    second[5] *= np.e
    second[4] *= np.e**3
    assert found[0, 1].tolist() == pytest.approx(first.tolist())
    assert found[1, 1].tolist() == pytest.approx(second.tolist())


# Distortions, and imperfect synapses


def answers(engine: Engine, images: NDArray[np.uint8], first_seed: int) -> tuple[list[int], list[int]]:
    """Predictions and steps, as the service gives them."""
    options = Options(EXPORT_STEPS, engine.card.calibration.confidence, seed=0)
    seeds = [first_seed + i for i in range(len(images))]
    found = list(Simulator(engine).classify(images, seeds, options, [0.0] * len(images)))
    return [answer["prediction"] for answer in found], [answer["steps_used"] for answer in found]


@pytest.mark.parametrize("chunk", [4, 100])
def test_accuracy_under_the_stopping_rule_is_that_of_the_service(
    chunk: int, exported: Exported, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.measure.evaluate.CHUNK", chunk)
    images, labels = drawn[0][:10], drawn[1][:10].copy()
    predictions, steps = answers(exported.engine, images, 3_000_000)
    labels[:5] = predictions[:5]
    found = stopping_accuracy(exported.engine, images, labels, seed=3)
    assert found == (float(np.mean(predictions == labels)), float(np.mean(steps)))
    assert found[0] >= 0.5


def test_figures_on_unseen_writers(exported: Exported, drawn: Drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracy of digits; of both how many answers are as sure as would be believed, here any that is above a half."""
    monkeypatch.setattr("training.measure.evaluate.SURE", 0.5)
    images, labels, others = drawn[0][:6], drawn[1][:6], drawn[0][6:9]
    found = unseen_writers(exported.engine, (images, labels), others, seeds=2)
    assert json.loads(json.dumps(found)) == found
    digits = [stopped_answers(exported.engine, images, seed) for seed in range(2)]
    none = [stopped_answers(exported.engine, others, seed) for seed in range(2)]
    assert found["seeds"] == 2 and found["sure"] == 0.5
    assert found["digits"]["accuracy"]["mean"] == np.mean([one.accuracy(labels) for one in digits])
    for row, trials in ((found["digits"], digits), (found["non_digits"], none)):
        confidence = np.array([one.probabilities.max(-1) for one in trials])
        assert row["images"] == confidence.shape[1]
        assert row["above"] == np.mean(confidence >= 0.5) and row["confidence"] == confidence.mean()
        assert row["steps"]["mean"] == np.mean([one.steps.mean() for one in trials])
    assert "accuracy" not in found["non_digits"]


def test_robustness_is_accuracy_on_distorted_pictures(
    exported: Exported, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: DISTORTIONS[name] for name in ("gaussian_noise", "inverted")}
    monkeypatch.setattr("training.measure.evaluate.DISTORTIONS", few)
    images, labels = drawn[0][:8], drawn[1][:8]
    done: list[int] = []
    found = robustness(exported.engine, images, labels, seed=5, progress=done.append)
    assert json.loads(json.dumps(found)) == found
    assert (found["seed"], list(found["distortions"]), done) == (5, list(few), [1, 2])
    for name, row in found["distortions"].items():
        predictions, steps = answers(exported.engine, distorted(images, name, 5), 0)
        assert row == {"accuracy": np.mean(predictions == labels), "steps": np.mean(steps)}
    rows = found["distortions"].values()
    assert found["mean_accuracy"] == np.mean([row["accuracy"] for row in rows])


def test_digits_written_otherwise_are_those_of_training(exported: Exported, drawn: Drawn) -> None:
    """Each draw another; accuracy and steps are those of the service."""
    images, labels = drawn[0][:8], drawn[1][:8]
    done: list[int] = []
    found = handwriting(exported.engine, images, labels, 2, progress=done.append)
    assert json.loads(json.dumps(found)) == found and done == [1, 2]
    expected = []
    for draw in range(2):
        seen = vary(torch.from_numpy(images), Variation(), torch.Generator().manual_seed(draw)).numpy()
        assert np.array_equal(rewritten(images, draw), seen) and not np.array_equal(seen, images)
        predictions, steps = answers(exported.engine, seen, draw * SEED_STRIDE)
        expected.append((np.mean(predictions == labels), np.mean(steps)))
    assert found == {
        "draws": 2,
        "accuracy": _spread(np.array([one[0] for one in expected])),
        "steps": _spread(np.array([one[1] for one in expected])),
    }


def test_digits_written_otherwise_may_be_brought_along(
    exported: Exported, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In their order, each with the encoder seed of its draw."""
    seen: list[tuple[float, int]] = []

    def note(
        engine: Engine, images: NDArray[np.uint8], labels: NDArray[np.int64], seed: int
    ) -> tuple[float, float]:
        seen.append((float(images.mean()), seed))
        return 0.5 + seed, 2.0

    monkeypatch.setattr("training.measure.evaluate.stopping_accuracy", note)
    brought = [np.full((2, 28, 28), level, np.uint8) for level in (7, 9)]
    found = handwriting(exported.engine, drawn[0][:2], drawn[1][:2], 2, drawn=brought)
    assert seen == [(7.0, 0), (9.0, 1)]
    assert found["accuracy"] == {"mean": 1.0, "std": pytest.approx(0.5**0.5)}
    assert found["steps"] == {"mean": 2.0, "std": 0.0}


def test_distorted_pictures_may_be_brought_along(
    exported: Exported, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {name: DISTORTIONS[name] for name in ("gaussian_noise", "inverted")}
    monkeypatch.setattr("training.measure.evaluate.DISTORTIONS", few)
    images, labels = drawn[0][:8], drawn[1][:8]
    brought = {"gaussian_noise": images, "inverted": distorted(images, "thicker", 2)}
    found = robustness(exported.engine, images, labels, drawn=brought)
    for name, seen in brought.items():
        accuracy, steps = stopping_accuracy(exported.engine, seen, labels)
        assert found["distortions"][name] == {"accuracy": accuracy, "steps": steps}


@pytest.mark.parametrize("chunk", [3, 100])
def test_a_model_of_one_step_has_nothing_to_stop(
    chunk: int, exported: Exported, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its accuracy is what answers in one step have, each with its own seed."""
    monkeypatch.setattr("training.measure.evaluate.CHUNK", chunk)
    images = drawn[0][:10]
    labels = (
        exported.engine.by_step(images, range(2_000_000, 2_000_010), 1, "bernoulli").potentials[0].argmax(-1)
    )
    labels[7:] = (labels[7:] + 1) % 10
    calibration = {"scale": exported.card.calibration.scale[:1], "confidence": 0.2}
    changed = {"max_steps": 1, "calibration": calibration}
    short = OnnxruntimeEngine(exported.folder)
    short.card = Card.model_validate({**exported.card.model_dump(), **changed})
    assert stopping_accuracy(short, images, labels, seed=2) == (0.7, 1.0)


def test_every_distortion_is_measured(
    scripted: Callable[[float], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def accuracy(engine: object, images: object, labels: object) -> tuple[float, float]:
        return len(asked) / 100, 2.0

    def distort(images: NDArray[np.uint8], name: str, seed: int) -> NDArray[np.uint8]:
        asked.append(name)
        return images

    monkeypatch.setattr("training.measure.evaluate.stopping_accuracy", accuracy)
    monkeypatch.setattr("training.measure.evaluate.distorted", distort)
    found = robustness(scripted(1.0), BLANK, LABELS)
    assert asked == list(DISTORTIONS) == list(found["distortions"])
    assert found["distortions"]["contour"] == {"accuracy": 0.23, "steps": 2.0}
    assert found["mean_accuracy"] == pytest.approx(0.12)  # of 1, 2, ... 23 hundredths


def test_perfect_synapses_make_no_noise(exported: Exported, drawn: Drawn) -> None:
    """Draw d is asked with encoder seed d; two draws of nothing differ by that alone."""
    images, labels = drawn[0][:8], drawn[1][:8]
    done: list[int] = []
    found = synapse_noise(
        exported.folder, OnnxruntimeEngine, images, labels, 0.0, 0.0, draws=2, progress=done.append
    )
    alone = [stopping_accuracy(exported.engine, images, labels, draw) for draw in range(2)]
    assert found == {
        "sigma": 0.0,
        "stuck_at": 0.0,
        "draws": 2,
        "accuracy": _spread(np.array([accuracy for accuracy, _ in alone])),
        "steps": _spread(np.array([steps for _, steps in alone])),
    }
    assert done == [1, 2]


def test_each_draw_of_synapses_is_measured(exported: Exported, drawn: Drawn, tmp_path: Path) -> None:
    """And its folder is gone afterwards."""
    folders: list[Path] = []

    def load(folder: Path) -> Engine:
        folders.append(folder)
        return OnnxruntimeEngine(folder)

    images, labels = drawn[0][:8], drawn[1][:8]
    found = synapse_noise(exported.folder, load, images, labels, 0.5, 0.1, draws=3)
    alone = []
    for draw in range(3):
        write_perturbed(exported.folder, tmp_path / str(draw), 0.5, 0.1, draw)
        alone.append(stopping_accuracy(OnnxruntimeEngine(tmp_path / str(draw)), images, labels, draw))
    assert found["steps"] == _spread(np.array([steps for _, steps in alone]))
    assert found["accuracy"] == _spread(np.array([accuracy for accuracy, _ in alone]))
    assert len(set(folders)) == 3 and not any(folder.exists() for folder in folders)


def test_figures_are_the_same_on_every_engine(exported: Exported, drawn: Drawn) -> None:
    if not native.available():
        pytest.skip("needs the native engine")
    images, labels = drawn[0][:12], drawn[1][:12]
    one, other = (
        evaluate(engine, images, labels, seeds=2)
        for engine in (exported.engine, native.NativeEngine(exported.folder))
    )
    assert one == other


def test_a_model_without_hidden_layers_has_no_rates_of_them(drawn: Drawn, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "best.pt", make_glm())
    export(checkpoint, tmp_path / "glm", drawn, drawn[0][:2], max_steps=2)
    result = evaluate(OnnxruntimeEngine(tmp_path / "glm"), drawn[0][:4], drawn[1][:4], seeds=1)
    assert result["mean_firing_rate"] is None
    assert list(result["firing_rate"]) == ["input", "output"]
    assert result["synaptic_operations"]["accumulates"] == 0
    assert result["synaptic_operations"]["multiply_accumulates"] > 0


def test_spread_is_that_of_a_sample() -> None:
    assert _spread(np.array([1.0, 2.0, 3.0])) == {"mean": 2.0, "std": 1.0}
    assert _spread(np.array([0.5])) == {"mean": 0.5, "std": 0.0}
