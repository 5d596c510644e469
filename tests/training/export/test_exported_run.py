"""Run: the same run as the engine's and the service's, and where the heads look."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from spikehead.engine.raster import raster
from spikehead.engine.run import Run, attention_maps, observe
from spikehead.inference.options import Options
from spikehead.inference.simulator import Simulator
from spikehead.model.card import Card, FanOut, Layer
from spikehead.model.decision import class_probabilities
from spikehead.model.encoding import Encoder, encode
from spikehead.model.retina import contrast

from tests.training.conftest import EXPORT_STEPS, SMALL, Exported, known
from training.network.neurons import table_shift

Drawn = tuple[NDArray[np.uint8], NDArray[np.int64]]
SEED = 12


@pytest.fixture
def run(exported: Exported, drawn: Drawn) -> Run:
    return observe(exported.engine, drawn[0][3], SEED, EXPORT_STEPS)


def test_every_stage_has_its_shape(run: Run, exported: Exported) -> None:
    steps = EXPORT_STEPS
    assert run.steps == steps
    shapes = {name: list(spikes.shape) for name, spikes in run.spikes.items()}
    assert shapes == {layer.name: [steps, *layer.shape] for layer in exported.card.layers}
    assert {spikes.dtype for spikes in run.spikes.values()} == {np.dtype(np.uint8)}
    assert known(run.filtered).shape == (steps, 28, 28)
    for values in (
        run.potentials, run.spike_probabilities, known(run.feedback), run.class_probabilities
    ):  # fmt: skip
        assert values.shape == (steps, 10)


@pytest.mark.parametrize("encoder", ["bernoulli", "regular"])
def test_recording_is_what_the_engine_did(encoder: Encoder, exported: Exported, drawn: Drawn) -> None:
    engine, card, image = exported.engine, exported.card, drawn[0][3]
    run = observe(engine, image, SEED, 3, encoder)
    assert np.array_equal(run.image, image)
    assert np.array_equal(run.contrast, contrast(image[None])[0])
    trains, uniforms = encode(contrast(image[None]), [SEED], 3, encoder)
    assert np.array_equal(run.spikes["input"], trains[:, 0])
    state, evidence = engine.initial_state(1), np.zeros(10, np.int64)
    for t in range(3):
        step = engine.step(state, trains[t], uniforms[t])
        state = step.state
        evidence += step.potential[0].astype(np.int64)
        for name, spikes in step.spikes.items():
            assert np.array_equal(run.spikes[name][t], spikes[0])
        assert np.array_equal(run.spikes["output"][t], step.output_spikes[0])
        assert np.array_equal(run.potentials[t], step.potential[0].astype(float) * card.potential_scale)
        assert np.array_equal(run.spike_probabilities[t], step.spike_probability[0])
        assert np.array_equal(known(run.filtered)[t], state["state.input"][0, 0] / 16)
        assert np.array_equal(known(run.feedback)[t], state["state.feedback"][0] / 16)
        assert np.array_equal(run.class_probabilities[t], class_probabilities(card, evidence, t))
    assert run.prediction == run.class_probabilities[2].argmax()


def test_recording_is_what_the_service_answers(run: Run, exported: Exported, drawn: Drawn) -> None:
    """Same seed: the same events in every layer, and the same probabilities, to the bit."""
    names = tuple(exported.card.layer_names)
    never = Options(EXPORT_STEPS, confidence=2.0, seed=SEED, raster=names)
    (answer,) = Simulator(exported.engine).classify(drawn[0][3:4], [SEED], never, [0.0])
    for layer in exported.card.layers:
        assert answer["raster"][layer.name] == raster(layer, run.spikes[layer.name])
    assert answer["class_probabilities"] == run.class_probabilities[-1].tolist()
    assert answer["prediction"] == run.prediction
    assert answer["spike_counts"]["output"] == run.spikes["output"].sum(0).tolist()


def test_filtered_trains_follow_from_the_spike_trains(run: Run) -> None:
    """Kernel A in sixteenths of a spike: a <- a - floor(a / 2) + 16 x."""
    trace = np.zeros((28, 28), int)
    for t in range(EXPORT_STEPS):
        trace = trace - (trace >> 1) + 16 * run.spikes["input"][t, 0]
        assert np.array_equal(known(run.filtered)[t], trace / 16)
    assert known(run.filtered).max() > 1  # pixels that spiked twice add up


def test_feedback_follows_from_the_output_spikes(run: Run) -> None:
    """Kernel B, negative: b <- b - floor(b / 2) - 16 y."""
    trace = np.zeros(10, int)
    for t in range(EXPORT_STEPS):
        trace = trace - (trace >> 1) - 16 * run.spikes["output"][t].astype(int)
        assert np.array_equal(known(run.feedback)[t], trace / 16)
    assert known(run.feedback).min() <= -1


def test_probabilities_are_the_sigmoid_of_the_potentials(run: Run, exported: Exported) -> None:
    scale = exported.card.potential_scale  # entries of the table are as wide as several potentials
    expected = 1 / (1 + np.exp(-run.potentials))
    assert (
        np.abs(run.spike_probabilities - expected).max()
        <= 2 ** table_shift(scale) * scale / 8 + 2**-17 + 1e-6
    )


def test_another_seed_is_another_run(run: Run, exported: Exported, drawn: Drawn) -> None:
    again, other = (observe(exported.engine, drawn[0][3], seed, EXPORT_STEPS) for seed in (SEED, SEED + 1))
    assert np.array_equal(again.potentials, run.potentials)
    assert not np.array_equal(other.spikes["input"], run.spikes["input"])


def layer(name: str, shape: list[int], targets: int) -> Layer:
    return Layer(name=name, shape=shape, fan_out=FanOut(targets=targets))


def of_layers(card: Card, *layers: Layer) -> Card:
    return card.model_copy(update={"layers": list(layers)})


def test_attention_by_hand(run: Run, exported: Exported) -> None:
    """Two steps, two tokens, two heads of two channels each.

    Head 1, step 1: queries 11 and 10, keys 11 and 01, so token 1 receives 2 + 1 and token 2 receives 1 + 0.
    Step 2: queries 00 and 11, keys 10 and 11, so 0 + 1 and 0 + 2. Head 2 spikes in step 1 alone: query 10 of
    token 2, key 11 of token 1.
    """
    query = np.array([[[1, 1, 0, 0], [1, 0, 1, 0]], [[0, 0, 0, 0], [1, 1, 0, 0]]], np.uint8)
    key = np.array([[[1, 1, 1, 1], [0, 1, 0, 0]], [[1, 0, 0, 0], [1, 1, 0, 0]]], np.uint8)
    card = of_layers(
        exported.card,
        layer("block1.query", [2, 4], 2),
        layer("block1.key", [2, 4], 0),
        layer("tokens", [2, 4], 10),
    )
    spikes = {"block1.query": query, "block1.key": key, "tokens": key}
    two_steps = dataclasses.replace(run, spikes=spikes, potentials=run.potentials[:2])
    maps = attention_maps(card, two_steps)
    assert list(maps) == ["block1"]
    assert maps["block1"].tolist() == [[3 + 1, 1 + 2], [1, 0]]


def test_attention_of_a_network_without_it(run: Run, exported: Exported) -> None:
    card = of_layers(exported.card, layer("block1.mlp_in", [49, 8], 16), layer("tokens", [49, 8], 10))
    assert attention_maps(card, run) == {}


def test_attention_of_a_run_counts_its_coincidences(run: Run, exported: Exported) -> None:
    """Summed over tokens: for each head, channel by channel, query spikes times key spikes of each step."""
    maps = attention_maps(exported.card, run)
    assert {block: values.shape for block, values in maps.items()} == {"block1": (SMALL.heads, 49)}
    query, key = (run.spikes[f"block1.{part}"].sum(1).astype(int) for part in ("query", "key"))  # [T, C]
    expected = (query * key).reshape(EXPORT_STEPS, SMALL.heads, -1).sum((0, 2))
    assert maps["block1"].sum(1).tolist() == expected.tolist()
    assert expected.min() > 0
