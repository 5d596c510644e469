"""The native engine against onnxruntime: the same spikes, steps, counts and probabilities, to the last bit."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikehead.engine import native
from spikehead.engine.base import Outcome, Rule, Stimulus
from spikehead.engine.loading import load_engine
from spikehead.engine.native.arrays import Arrays, load_arrays
from spikehead.engine.onnxruntime import OnnxruntimeEngine
from spikehead.engine.stepping import simulate
from spikehead.inference.classifier import Classifier
from spikehead.inference.models import Models
from spikehead.inference.options import Options
from spikehead.inference.simulator import Simulator
from spikehead.model import encoding, retina
from spikehead.model.card import Card, ModelError, load_card
from spikehead.model.decision import class_probabilities, exponential
from spikehead.model.synaptic_operations import SynapticOperations
from spikehead.pictures.normalise import prepare
from spikehead.settings import Settings

from tests.service.drawings import drawing
from tests.service.retina_pictures import edge_cases
from tests.service.ticking import Ticking
from training.export.arrays import arrays_of
from training.export.artifact import _draft_card
from training.export.graph import ExportError, build
from training.measure.model_folder import hashed, write
from training.network.spiking import Block, GLMNetwork, NetworkConfig, SpikingNetwork, SpikingTransformer

STEPS = 4


def test_the_engine_is_built_in_ci() -> None:
    """Elsewhere a missing compiler skips what follows; there it must not."""
    if not os.environ.get("CI"):
        pytest.skip("is asked in CI alone")
    assert native.available()


needs_native = pytest.mark.skipif(
    not native.available(), reason="needs the native engine: install a C++ compiler, then `pip install -e .`"
)


def instruction_sets() -> list[str]:
    return native._core.instruction_sets() if native.available() else []


def random_network(config: NetworkConfig, seed: int, liveliness: float = 1.0) -> SpikingTransformer:
    """Random weights in integer arithmetic; `liveliness` scales the currents, and so the spikes."""
    torch.manual_seed(seed)
    network = SpikingTransformer(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("norm.weight"):
                parameter.mul_(torch.rand_like(parameter) * liveliness * 2)
            elif name.endswith("norm.bias"):
                parameter.copy_(torch.randn_like(parameter) * 0.3 * liveliness)
            elif name.endswith("position"):
                parameter.copy_(torch.randn_like(parameter) * 0.5)
    network.integer = True
    return network.eval()


def random_glm(config: NetworkConfig, seed: int, liveliness: float = 1.0) -> GLMNetwork:
    """Output neurons alone, with random weights in integer arithmetic."""
    torch.manual_seed(seed)
    network = GLMNetwork(config)
    with torch.no_grad():
        network.readout.weight.mul_(liveliness)
        network.readout.gamma.copy_(torch.randn(10) * liveliness)
        network.readout.feedback.copy_(torch.rand(10) * 2)
    network.integer = True
    return network.eval()


def exported(network: SpikingNetwork, folder: Path, reset_interval: int | None = None) -> Path:
    """A model folder of the network, uncalibrated."""
    graph = build(network, folder.name).SerializeToString()
    arrays = arrays_of(graph)
    folder.mkdir(parents=True, exist_ok=True)
    card = _draft_card(network, folder.name, "1.0.0", graph, STEPS, reset_interval, arrays)
    write(folder, graph, card, arrays)
    return folder


def arrays_in(folder: Path) -> Arrays:
    """All that the compiled part takes, to be changed."""
    return {name: values.copy() for name, values in load_arrays(folder, load_card(folder)).items()}


SMALL = NetworkConfig(stem=(4, 6), channels=8, blocks=1, heads=2)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(random_network(SMALL, 1), tmp_path_factory.mktemp("models") / "small")


GLM = NetworkConfig(kind="glm")


@pytest.fixture(scope="module")
def glm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(random_glm(GLM, 2), tmp_path_factory.mktemp("models") / "glm")


@pytest.fixture(scope="module")
def resetting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose state begins anew before its last step."""
    return exported(random_network(SMALL, 1), tmp_path_factory.mktemp("models") / "resetting", STEPS - 1)


def compare(folder: Path, spikes: np.ndarray, uniforms: np.ndarray, rule: Rule, simd: str) -> list[Outcome]:
    """Both engines on the same spike trains [T, N, 784]; every value of every step has to agree."""
    reference, engine = OnnxruntimeEngine(folder), native.NativeEngine(folder, simd)
    steps, count = len(spikes), spikes.shape[1]
    values, kept = engine.record(spikes, uniforms, rule)
    found = engine._outcomes(values, 0.0)
    trains = spikes.reshape(steps, count, 1, 28, 28).astype(np.float32)
    layers = reference.card.layer_names[1:]
    expected = simulate(
        reference, SynapticOperations(reference.card), trains, uniforms, rule, recorded=layers
    )
    for image, (one, other) in enumerate(zip(found, expected, strict=True)):
        same(one, other)
        for name in layers:
            recorded = other.recorded[name].reshape(other.steps, -1)
            assert np.array_equal(kept[name][image, : other.steps], recorded), (simd, name, image)
    everyone = min(outcome.steps for outcome in expected)
    for t in range(everyone):
        if reference.card.begins_anew(t):
            state = reference.initial_state(count)
        step = reference.step(state, trains[t], uniforms[t])
        state = step.state
        assert np.array_equal(kept["potential"][:, t], step.potential)
        assert np.array_equal(kept["spike_probability"][:, t], step.spike_probability)
        assert np.array_equal(kept["feedback"][:, t], state["state.feedback"])
        assert np.array_equal(kept["traces"][:, t], state["state.input"].reshape(count, -1))
    return expected


def same(one: Outcome, other: Outcome) -> None:
    """Two outcomes agree in everything but their timings."""
    assert (one.steps, one.stopped_by, one.counts) == (other.steps, other.stopped_by, other.counts)
    assert (one.accumulates, one.multiply_accumulates) == (other.accumulates, other.multiply_accumulates)
    assert one.work.spikes.tolist() == other.work.spikes.tolist()
    assert one.work.operations.tolist() == other.work.operations.tolist()
    assert one.probabilities.tolist() == other.probabilities.tolist()
    assert one.output_counts.tolist() == other.output_counts.tolist()


alike = st.builds(
    NetworkConfig,
    stem=st.tuples(st.sampled_from([1, 4, 33]), st.sampled_from([2, 5, 32])),
    channels=st.sampled_from([4, 12, 24, 64, 72]),
    blocks=st.integers(0, 2),
    heads=st.sampled_from([1, 2, 4]),
    mlp_ratio=st.integers(1, 3),
    attention=st.booleans(),
    position=st.booleans(),
    neighbours=st.booleans(),
    bits=st.sampled_from([3, 4, 8]),
    shift_input=st.integers(1, 3),
    shift_membrane=st.integers(1, 3),
    shift_readout=st.integers(1, 3),
    shift_feedback=st.integers(1, 2),
)


configs = st.builds(
    lambda config, first: replace(config, attention_from=min(first, max(1, config.blocks))),
    alike,
    st.integers(1, 2),
)


@needs_native
@settings(max_examples=25, deadline=None)
@given(
    config=configs,
    seed=st.integers(0, 2**32),
    liveliness=st.sampled_from([0.3, 1.0, 4.0]),
    density=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    steps=st.integers(1, STEPS),
    confidence=st.sampled_from([0.2, 0.9, 1.0]),
    reset_interval=st.sampled_from([None, None, 1, 2, 3]),
)
def test_any_network_gives_the_same_on_every_instruction_set(
    tmp_path_factory: pytest.TempPathFactory,
    config: NetworkConfig,
    seed: int,
    liveliness: float,
    density: float,
    steps: int,
    confidence: float,
    reset_interval: int | None,
) -> None:
    try:
        network = random_network(config, seed, liveliness)
        folder = exported(network, tmp_path_factory.mktemp("any") / "any", reset_interval)
    except ExportError:
        return  # its values could leave the exact whole numbers: there is nothing to run
    random = np.random.default_rng(seed)
    spikes = (random.random((steps, 3, 784)) < density).astype(np.uint8)
    uniforms = random.random((steps, 3, 10), np.float32)
    for simd in instruction_sets():
        compare(folder, spikes, uniforms, Rule(steps, confidence), simd)


@needs_native
@settings(max_examples=25, deadline=None)
@given(
    config=st.builds(
        NetworkConfig,
        kind=st.just("glm"),
        bits=st.sampled_from([2, 4, 8]),
        shift_input=st.integers(1, 3),
        shift_feedback=st.integers(1, 3),
        trace_unit=st.sampled_from([1, 16, 100]),
    ),
    seed=st.integers(0, 2**32),
    liveliness=st.sampled_from([0.1, 1.0, 10.0]),
    density=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    steps=st.integers(1, STEPS),
    confidence=st.sampled_from([0.2, 0.9, 1.0]),
    reset_interval=st.sampled_from([None, None, 1, 2, 3]),
)
def test_output_neurons_alone_give_the_same_on_every_instruction_set(
    tmp_path_factory: pytest.TempPathFactory,
    config: NetworkConfig,
    seed: int,
    liveliness: float,
    density: float,
    steps: int,
    confidence: float,
    reset_interval: int | None,
) -> None:
    """torch too: potentials, probabilities and output spikes of every step."""
    network = random_glm(config, seed, liveliness)
    try:
        folder = exported(network, tmp_path_factory.mktemp("glm") / "glm", reset_interval)
    except ExportError:
        return  # its values could leave the exact whole numbers: there is nothing to run
    random = np.random.default_rng(seed)
    spikes = (random.random((steps, 3, 784)) < density).astype(np.uint8)
    uniforms = random.random((steps, 3, 10), np.float32)
    for simd in instruction_sets():
        compare(folder, spikes, uniforms, Rule(steps, confidence), simd)
    trains = torch.from_numpy(spikes.reshape(steps, 3, 1, 28, 28).astype(np.float32))
    _, kept = native.NativeEngine(folder).record(spikes, uniforms, Rule(steps, 2.0))
    for begin in range(0, steps, reset_interval or steps):  # torch begins anew where it is called anew
        part = slice(begin, begin + (reset_interval or steps))
        with torch.no_grad():
            run = network(trains[part], torch.from_numpy(uniforms[part]))
        for name, values in (
            ("potential", run.integer_potentials),
            ("spike_probability", run.spike_probabilities),
            ("output", run.output_spikes),
        ):
            assert np.array_equal(kept[name].swapaxes(0, 1)[part], values.numpy()), name


@needs_native
@pytest.mark.parametrize("simd", instruction_sets())
@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("model", ["small", "glm"])
def test_no_spikes_and_all_spikes(model: str, simd: str, level: int, request: pytest.FixtureRequest) -> None:
    spikes = np.full((STEPS, 2, 784), level, np.uint8)
    uniforms = np.linspace(0, 1, STEPS * 20, endpoint=False, dtype=np.float32).reshape(STEPS, 2, 10)
    compare(request.getfixturevalue(model), spikes, uniforms, Rule(STEPS, 1.0), simd)


@needs_native
@pytest.mark.parametrize("encoder", encoding.ENCODERS)
@pytest.mark.parametrize("model", ["small", "glm", "resetting"])
def test_every_figure_of_every_step_is_the_same(
    model: str, encoder: encoding.Encoder, request: pytest.FixtureRequest
) -> None:
    """`by_step` and `course`, and what they add up to is what `classify` says of a run that nothing stops."""
    folder, images = request.getfixturevalue(model), pictures(6)
    seeds = [2**64 - 1, 0, 1, 2, 3, 4]
    reference = OnnxruntimeEngine(folder)
    expected = reference.by_step(images, seeds, STEPS, encoder)
    assert expected.potentials.any() and expected.multiply_accumulates.all()
    assert expected.accumulates.any() == (model != "glm")
    for simd in instruction_sets():
        engine = native.NativeEngine(folder, simd)
        found = engine.by_step(images, seeds, STEPS, encoder)
        assert found.potentials.shape == (STEPS, 6, 10) and found.potentials.dtype == np.int64
        assert np.array_equal(found.potentials, expected.potentials)
        assert list(found.spikes) == list(expected.spikes) == engine.card.layer_names
        for name, counts in expected.spikes.items():
            assert np.array_equal(found.spikes[name], counts), (simd, name)
        assert np.array_equal(found.accumulates, expected.accumulates)
        assert np.array_equal(found.multiply_accumulates, expected.multiply_accumulates)
        for one in (reference, engine):
            course = list(one.course(images[0], seeds[0], STEPS, encoder))
            assert np.array_equal([moment.potential for moment in course], expected.potentials[:, 0])
        part = engine.by_step(images[1:3], seeds[1:3], 2, encoder)
        assert np.array_equal(part.potentials, expected.potentials[:2, 1:3])
    runs = reference.classify(Stimulus(images, seeds, encoder), Rule(STEPS, 2.0))
    for image, run in enumerate(runs):
        assert run.steps == STEPS
        assert run.counts == {name: int(counts[:, image].sum()) for name, counts in expected.spikes.items()}
        assert run.accumulates == expected.accumulates[:, image].sum()
        assert run.multiply_accumulates == expected.multiply_accumulates[:, image].sum()


@pytest.mark.parametrize("engine", ["onnxruntime", pytest.param("native", marks=needs_native)])
def test_after_a_reset_the_network_answers_as_at_first(engine: str, small: Path, resetting: Path) -> None:
    """The same spikes and uniform numbers as in the first step, and the same spikes come out."""
    random = np.random.default_rng(3)
    first = (random.random((1, 2, 784)) < 0.3).astype(np.uint8), random.random((1, 2, 10), np.float32)
    spikes, uniforms = (np.concatenate([values] * STEPS) for values in first)
    tokens = {}
    for folder in (small, resetting):
        if engine == "native":
            _, kept = native.NativeEngine(folder).record(spikes, uniforms, Rule(STEPS, 2.0))
        else:
            reference = OnnxruntimeEngine(folder)
            trains = spikes.reshape(STEPS, 2, 1, 28, 28).astype(np.float32)
            operations = SynapticOperations(reference.card)
            layers = reference.card.layer_names
            ran = simulate(reference, operations, trains, uniforms, Rule(STEPS, 2.0), recorded=layers)
            kept = {name: np.stack([one.recorded[name] for one in ran]) for name in layers}
        tokens[folder] = kept["tokens"].reshape(2, STEPS, -1)
    assert np.array_equal(tokens[resetting][:, -1], tokens[resetting][:, 0])
    assert np.array_equal(tokens[resetting][:, :-1], tokens[small][:, :-1])
    assert not np.array_equal(tokens[small][:, -1], tokens[small][:, 0])


@needs_native
@pytest.mark.parametrize("simd", instruction_sets())
@pytest.mark.parametrize(("bias", "fires"), [(0, True), (-1, False)])
def test_a_potential_exactly_at_the_threshold_fires(
    tmp_path: Path, simd: str, bias: int, fires: bool
) -> None:
    """stem1 with one weight of 1 for the middle pixel: a trace of 16 against a threshold of 16, or of 16 - 1."""
    network = random_network(SMALL, 3)
    synapses = network.stem.stem1
    with torch.no_grad():
        synapses.weight.zero_()
        synapses.weight[:, 0, 2, 2] = 1.0
        synapses.norm.weight.fill_(16.0 * np.sqrt(1 + synapses.norm.eps))  # undoes the unit of the traces
        synapses.norm.bias.fill_(bias / 127 / 16)
    folder = exported(network, tmp_path / "edge")
    arrays = arrays_in(folder)
    weight, threshold = int(arrays["stem1.weight"].max()), int(arrays["stem1.v_threshold"].flat[0])
    # One spike leaves a trace of 16: the current is 16 weights. The bias makes it meet the threshold, or miss it by 1.
    arrays["stem1.bias"] = np.full(4, threshold - 16 * weight + bias, np.int32)
    engine = native._core.Engine(arrays, simd)
    spikes = np.zeros((1, 1, 784), np.uint8)
    spikes[0, 0, 2 * 28 + 2] = 1  # the middle of the window of place (1, 1)
    _, kept = engine.record(spikes, np.ones((1, 1, 10), np.float32), 1, 1.0, np.ones(1))
    place = kept["stem1"].reshape(4, 14, 14)[:, 1, 1]
    assert place.tolist() == [int(fires)] * 4


@needs_native
def test_accumulators_are_as_wide_as_the_bound_asks() -> None:
    """A network whose currents outgrow 16 bits: the bound says so, and the spikes are right."""
    config = NetworkConfig(stem=(4, 40), channels=72, blocks=1, heads=1)
    network = random_network(config, 5, 3.0)
    with torch.no_grad():
        for synapses in (network.stem.stem1, network.stem.stem3):
            synapses.weight.abs_()  # all excitatory and alike: the largest sums there are
            synapses.weight.fill_(1.0)
    folder = exported(network, Path(os.environ.get("TMPDIR", "/tmp")) / f"spikehead-wide-{os.getpid()}")
    try:
        bounds = native.NativeEngine(folder).bounds
        for name, (low, high, bits) in bounds.items():
            assert bits == (16 if low >= -32767 and high <= 32766 else 32) or name.endswith(
                ("attention_in", "mlp_in", "tokens")
            )
        assert {bits for _, _, bits in bounds.values()} == {16, 32}
        spikes = np.ones((STEPS, 1, 784), np.uint8)
        for simd in instruction_sets():
            compare(folder, spikes, np.zeros((STEPS, 1, 10), np.float32), Rule(STEPS, 1.0), simd)
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


@needs_native
@pytest.mark.parametrize("simd", instruction_sets())
def test_neurons_that_cannot_fire_widen_no_layer(tmp_path: Path, simd: str) -> None:
    """One far below its threshold whatever comes, and one whose bias is just not enough to keep it silent."""
    network = random_network(SMALL, 3)
    block = network.blocks[0]
    assert isinstance(block, Block) and block.attention is not None
    with torch.no_grad():
        block.attention.query.norm.bias[:2] = torch.tensor([-1000.0, 0.9])
    folder = exported(network, tmp_path / "silent")
    assert arrays_in(folder)["block1.query.bias"][0] < -32_768  # else it would have fitted anyway
    low, high, bits = native.NativeEngine(folder, simd).bounds["block1.query"]
    assert bits == 16 and -32_767 <= low <= high <= 32_766
    spikes = np.random.default_rng(1).integers(0, 2, (STEPS, 2, 784), np.uint8)
    compare(folder, spikes, np.full((STEPS, 2, 10), 0.5, np.float32), Rule(STEPS, 2.0), simd)


@needs_native
def test_the_retina_decides_alike_where_it_is_close() -> None:
    pictures = edge_cases()
    assert np.array_equal(native.contrast(pictures), retina.contrast(pictures).reshape(-1, 784))


@needs_native
def test_the_engine_was_built_with_the_retina_s_constants() -> None:
    """Hardly any picture tells some of them apart, and a changed one needs a new build."""
    constants = {name: value for name, value in vars(retina).items() if name.isupper() and name != "SIDE"}
    assert ast.literal_eval(native._core.retina_constants) == constants


@needs_native
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_retina_sees_the_same(data: st.DataObject) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    level, spread = data.draw(st.integers(0, 255)), data.draw(st.sampled_from([0, 3, 24, 25, 200]))
    image = np.clip(level + random.integers(0, spread + 1, (28, 28)), 0, 255).astype(np.uint8)
    if data.draw(st.booleans()):
        y, x = random.integers(0, 22, 2)
        image[y : y + 6, x : x + 5] = random.integers(0, 256, (6, 5))
    for _ in range(data.draw(st.integers(0, 3))):  # strokes, lines across, and their edges alone
        top, left, height, width = random.integers((0, 0, 1, 1), (26, 26, 29, 10))
        ink = random.integers(0, 256)
        inside = data.draw(st.sampled_from([0, image[14, 14], ink]))
        image[top : top + height, left : left + width] = ink
        image[top + 1 : top + height - 1, left + 1 : left + width - 1] = inside
    if data.draw(st.booleans()):  # out of focus
        image = np.mean([np.roll(image, (y, x), (0, 1)) for y in range(3) for x in range(3)], axis=0).astype(
            np.uint8
        )
    assert np.array_equal(native.contrast(image[None])[0], retina.contrast(image).reshape(-1))


@needs_native
@pytest.mark.parametrize("encoder", encoding.ENCODERS)
@pytest.mark.parametrize("seed", [0, 7, 2**63, 2**64 - 1])
@pytest.mark.parametrize("slope", [1, 3, 16])
def test_the_encoder_draws_the_same(encoder: encoding.Encoder, seed: int, slope: int) -> None:
    image = np.arange(784, dtype=np.uint16).reshape(28, 28).astype(np.uint8)
    spikes, uniforms = native._core.encode(image.reshape(-1), seed, 9, encoder == "regular", slope)
    assert np.array_equal(spikes, encoding.input_spikes(image, seed, 9, encoder, slope).reshape(9, -1))
    assert np.array_equal(uniforms, encoding.output_uniforms(seed, 9))


def pictures(count: int) -> np.ndarray:
    return np.stack([prepare(drawing(seed).data, max_pixels=16_000_000) for seed in range(count)])


@needs_native
def test_whole_requests_of_output_neurons_alone_are_the_same(glm: Path) -> None:
    stimulus = Stimulus(pictures(12), [2**64 - 1, *range(11)])
    for rule in (Rule(STEPS, 1.0), Rule(STEPS, 0.3)):
        expected = OnnxruntimeEngine(glm).classify(stimulus, rule, ["input", "output"])
        assert all(outcome.accumulates == 0 for outcome in expected)
        for simd in instruction_sets():
            engine = native.NativeEngine(glm, simd)
            kept = engine.classify(stimulus, rule, ["input", "output"])
            for one, with_spikes, other in zip(engine.classify(stimulus, rule), kept, expected, strict=True):
                same(one, other)
                same(with_spikes, other)
                for name, spikes in other.recorded.items():
                    assert np.array_equal(with_spikes.recorded[name], spikes)
    assert load_engine(glm, engine="auto").name == "native"


@needs_native
def test_whole_requests_are_the_same(small: Path) -> None:
    images = pictures(12)
    images[3] = np.clip(images[3].astype(int) // 2 + np.arange(28) * 4, 0, 255)  # an uneven margin
    stimulus = Stimulus(images, [2**64 - 1, *range(11)])
    for rule in (Rule(STEPS, 1.0), Rule(STEPS, 0.3), Rule(1, 0.1)):
        expected = OnnxruntimeEngine(small).classify(stimulus, rule, ["input", "stem1", "tokens", "output"])
        for simd in instruction_sets():
            engine = native.NativeEngine(small, simd)
            for one, kept, other in zip(
                engine.classify(stimulus, rule),
                engine.classify(stimulus, rule, ["input", "stem1", "tokens", "output"]),
                expected,
                strict=True,
            ):
                same(one, other)
                same(kept, other)
                assert set(kept.recorded) == set(other.recorded)
                for name, spikes in other.recorded.items():
                    assert kept.recorded[name].shape == spikes.shape
                    assert np.array_equal(kept.recorded[name], spikes)


@needs_native
@pytest.mark.parametrize("confidence", [0.3, 1.0])
def test_answers_are_worded_as_python_words_them(small: Path, confidence: float) -> None:
    images = pictures(20)
    seeds, ids = [2**64 - 1, *range(19)], [f"id{i}" for i in range(20)]
    options = Options(STEPS, confidence, seed=0, encoder="regular")
    simulator = Simulator(native.NativeEngine(small))
    decode_ms = [i / 7 for i in range(20)]
    answers = list(simulator.answers(images, seeds, options, decode_ms, ids))
    for answer, expected, identifier in zip(
        answers, simulator.classify(images, seeds, options, decode_ms), ids, strict=True
    ):
        found = json.loads(answer.json)
        assert list(found) == ["id", *expected]
        assert found.pop("id") == identifier
        timings, expected_timings = found.pop("timings_ms"), expected.pop("timings_ms")
        assert list(timings) == list(expected_timings)
        assert timings["decode"] == pytest.approx(expected_timings["decode"], abs=1e-4)
        assert found == expected
        assert all(isinstance(p, float) for p in found["class_probabilities"])
        assert (answer.prediction, answer.confidence) == (found["prediction"], found["confidence"])
        assert (answer.steps, answer.stopped_by) == (found["steps_used"], found["stopped_by"])


@needs_native
def test_images_of_a_batch_share_the_time_of_their_encoding(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With rasters it is encoded here, in a second for all eight; the rest is timed in C++, image by image."""
    engine = native.NativeEngine(small)
    monkeypatch.setattr("spikehead.engine.native.time", Ticking())
    outcomes = engine.classify(Stimulus(pictures(8), range(8)), Rule(STEPS, 1.0), ["input"])
    assert [outcome.encode_ms for outcome in outcomes] == [125.0] * 8


@needs_native
def test_threads_do_not_mix(small: Path) -> None:
    engine = native.NativeEngine(small)
    images = pictures(40)
    rule = Rule(STEPS, 0.3)
    alone = [engine.classify(Stimulus(images[i : i + 1], [i]), rule)[0] for i in range(len(images))]

    def one(i: int) -> Outcome:
        return engine.classify(Stimulus(images[i : i + 1], [i]), rule)[0]

    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for found, expected in zip(pool.map(one, range(len(images))), alone, strict=True):
                same(found, expected)


@needs_native
def test_probabilities_are_those_of_the_decision(small: Path) -> None:
    engine = native.NativeEngine(small)
    spikes = np.random.default_rng(0).integers(0, 2, (STEPS, 5, 784)).astype(np.uint8)
    uniforms = np.zeros((STEPS, 5, 10), np.float32)
    values, kept = engine.record(spikes, uniforms, Rule(STEPS, 1.0))
    evidence = kept["potential"].astype(np.int64).sum(1)
    expected = class_probabilities(engine.card, evidence, STEPS - 1)
    assert [outcome.probabilities.tolist() for outcome in engine._outcomes(values, 0)] == expected.tolist()


def test_the_exponential_is_one() -> None:
    x = -np.concatenate([np.linspace(0, 40, 20_001), [1e-300, 300, 699.9]])
    assert np.abs(exponential(x) / np.exp(x) - 1).max() < 4e-16
    assert exponential(np.array([0.0, -700.0, -1e9])).tolist() == [1.0, *[exponential(np.array(-700.0))] * 2]


# ------------------------------------------------------------------------------------------ what is refused


@needs_native
@pytest.mark.slow
def test_thousands_of_mutated_files_are_refused_or_run(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a crash: what is not refused has to be a network that runs."""
    card, content = load_card(small), (small / "arrays.safetensors").read_bytes()
    head = 8 + int.from_bytes(content[:8], "little")
    random = np.random.default_rng(0)
    image = np.full((1, 784), 128, np.uint8)
    refused = 0
    for number in range(4000):
        broken = bytearray(content)
        kind, size = number % 4, len(content) if number % 8 < 4 else head
        if kind == 0:
            broken = broken[: random.integers(size)]
        elif kind == 1:
            for place in random.integers(0, size, random.integers(1, 6)):
                broken[place] = random.integers(256)
        elif kind == 2:
            start = random.integers(size)
            del broken[start : start + random.integers(1, 200)]
        else:
            start = random.integers(size)
            broken[start:start] = broken[start : start + random.integers(1, 200)]
        monkeypatch.setattr(
            "spikehead.engine.native.arrays.read_checked", lambda *_, data=bytes(broken): data
        )
        try:
            engine = native._core.Engine(load_arrays(small, card), "auto")
        except (ModelError, ValueError):
            refused += 1
            continue
        engine.classify(image, np.zeros(1, np.uint64), STEPS, 1.0, np.ones(STEPS))
    assert 3000 < refused < 4000  # most are refused; a changed weight is a network too


@needs_native
@settings(max_examples=400, deadline=None)
@given(data=st.data(), model=st.sampled_from(["small", "glm"]))
def test_any_array_that_is_changed_is_refused_or_runs(
    data: st.DataObject, model: str, request: pytest.FixtureRequest
) -> None:
    """Other values, sizes and types, in any array of the file and any number of the card."""
    arrays = arrays_in(request.getfixturevalue(model))
    for name in data.draw(st.lists(st.sampled_from(sorted(arrays)), min_size=1, max_size=3, unique=True)):
        values = arrays[name]
        kind = data.draw(st.sampled_from(["value", "all", "shape", "less", "more", "type", "gone"]))
        extremes = [0, 1, -1, 127, -128] + [2**12, 2**24, 2**31 - 1, -(2**31)] * (values.dtype == np.int32)
        value = data.draw(st.sampled_from(extremes if values.dtype != np.float32 else [-1.0, 2.0, np.nan]))
        if kind == "value":
            values.flat[data.draw(st.integers(0, values.size - 1))] = value
        elif kind == "all":
            values[...] = value
        elif kind == "shape":
            arrays[name] = values.reshape(values.T.shape)
        elif kind == "less":
            arrays[name] = values[: len(values) // 2] if values.ndim else np.empty(0, values.dtype)
        elif kind == "more":
            arrays[name] = np.stack([values, values])
        elif kind == "type":
            arrays[name] = values.astype(
                data.draw(st.sampled_from([np.int8, np.int32, np.int64, np.float32]))
            )
        else:
            del arrays[name]
    try:
        engine = native._core.Engine(arrays, "auto")
    except ValueError as error:
        assert str(error).startswith("expected ")
        return
    images = np.random.default_rng(0).integers(0, 256, (2, 784), np.uint8)
    engine.classify(images, np.arange(2, dtype=np.uint64), STEPS, 1.0, np.ones(STEPS))


Change = Callable[[Arrays], object]


@needs_native
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda arrays: arrays.pop("stem2.bias"), r"an array stem2\.bias, found none"),
        (lambda arrays: arrays.pop("heads"), "an array heads, found none"),
        (lambda arrays: arrays.pop("A.shift"), r"an array A\.shift, found none"),
        (lambda arrays: arrays.update(extra=np.zeros(1, np.int8)), "no array that .* not know, found extra"),
        (lambda arrays: arrays["sigmoid"].fill(np.nan), "probabilities in the table sigmoid"),
        (lambda arrays: arrays.update({"sigmoid": arrays["sigmoid"][1:]}), "a middle of the table sigmoid"),
        (lambda arrays: arrays["sides"].fill(5), "sides from 0 to 4 in the array sides"),
        (lambda arrays: arrays["heads"].fill(3), "heads that divide the channels"),
        (lambda arrays: arrays["A.shift"].fill(13), r"A\.shift from 1 to 12, found 13"),
        (lambda arrays: arrays["B.unit"].fill(1), r"B\.unit from -4096 to -1, found 1"),
        (lambda arrays: arrays["stem1.bias"].fill(2**24), r"all values of stem1 below 2\*\*24"),
        (lambda arrays: arrays["tokens.fan_out"].fill(-1), "a fan-out of tokens from 0"),
        (lambda arrays: arrays["tokens.fan_out"].__setitem__(0, 1), "the same fan-out of every token of tokens"),
        (
            lambda arrays: arrays.update({"stem2.weight": arrays["stem2.weight"].transpose(1, 0, 2, 3)}),
            r"the shape \[4, 4, 3, 3\] of stem2\.weight, found \[4, 6, 3, 3\]",
        ),
        (
            lambda arrays: arrays.update({"readout.weight": arrays["readout.weight"].astype(np.int32)}),
            r"the array readout\.weight of another type",
        ),
        (
            lambda arrays: arrays.update({"block1.expand.weight": np.zeros((8, 0), np.int8)}),
            r"a number of outputs of block1\.expand from 1 to 2\*\*16",
        ),
        (
            lambda arrays: arrays.update({"stem1.bias": arrays["stem1.bias"].astype(np.int64)}),
            "arrays of int8, int32 and float32",
        ),
    ],
)  # fmt: skip
def test_arrays_of_no_network_are_refused(small: Path, change: Change, what: str) -> None:
    arrays = arrays_in(small)
    change(arrays)
    with pytest.raises(ValueError, match=f"^expected {what}"):
        native._core.Engine(arrays, "auto")


def rewritten(model: Path, folder: Path, arrays: bytes) -> Path:
    """A copy of a model with other arrays, and their hash in its card."""
    card = load_card(model)
    card = Card.model_validate({**card.model_dump(), "arrays": hashed("arrays.safetensors", arrays)})
    folder.mkdir()
    write(folder, (model / "model.onnx").read_bytes(), card, arrays)
    return folder


# ---------------------------------------------------------------------------------------- which engine runs


@needs_native
def test_auto_takes_the_native_engine(small: Path) -> None:
    assert load_engine(small, engine="auto").name == "native"
    engine = load_engine(small, engine="native", simd="baseline")
    assert isinstance(engine, native.NativeEngine) and engine.simd == "baseline"


def test_without_a_compiler_onnxruntime_runs(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_core", None)
    assert load_engine(small, engine="auto").name == "onnxruntime"
    with pytest.raises(ModelError, match="expected the native engine, found that it was not built"):
        load_engine(small, engine="native")


@needs_native
def test_a_model_without_arrays_runs_on_onnxruntime(
    models_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_engine(models_folder / "tiny", engine="auto").name == "onnxruntime"
    assert "the native engine refuses" in caplog.text
    with pytest.raises(ModelError, match=r"expected arrays for .*: `python -m training add-arrays .*tiny`"):
        load_engine(models_folder / "tiny", engine="native")


@needs_native
def test_arrays_of_another_network_are_refused_or_left_to_onnxruntime(
    small: Path, glm: Path, tmp_path: Path
) -> None:
    """The card names them, but they are not those of its layers."""
    folder = rewritten(small, tmp_path / "small", (glm / "arrays.safetensors").read_bytes())
    with pytest.raises(ModelError, match=r"expected arrays that the native engine can run in .*found "):
        load_engine(folder, engine="native")
    assert load_engine(folder, engine="auto").name == "onnxruntime"


@needs_native
def test_layers_that_are_not_the_card_s_are_refused(small: Path, tmp_path: Path) -> None:
    """As many places, so that their fan-outs fit, and half as many neurons."""
    folder = rewritten(small, tmp_path / "small", (small / "arrays.safetensors").read_bytes())
    card = json.loads((folder / "card.json").read_text())
    card["layers"][1]["shape"][0] //= 2
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(
        ModelError, match=r"expected the layers \[\('stem1', 392\), .* found \[\('stem1', 784\)"
    ):
        native.NativeEngine(folder)


@needs_native
@pytest.mark.parametrize("engine", ["auto", "native"])
@pytest.mark.parametrize("content", [b"", b"no arrays", b"\xff" * 40])
def test_a_file_without_arrays_is_refused(small: Path, tmp_path: Path, engine: Any, content: bytes) -> None:
    folder = rewritten(small, tmp_path / "small", content)
    with pytest.raises(ModelError, match=r"expected arrays at .*arrays\.safetensors, got: "):
        load_engine(folder, engine=engine)


@needs_native
@pytest.mark.parametrize("engine", ["auto", "native"])
def test_a_file_that_is_not_the_card_s_is_refused(small: Path, tmp_path: Path, engine: Any) -> None:
    """As where it was damaged or is gone: onnxruntime does not step in, because the folder is broken."""
    folder = rewritten(small, tmp_path / "small", (small / "arrays.safetensors").read_bytes())
    file = folder / "arrays.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(ModelError, match=r"arrays\.safetensors with sha256 .* \(from its card\), found"):
        load_engine(folder, engine=engine)
    file.unlink()
    with pytest.raises(ModelError, match=r"expected the arrays at .*arrays\.safetensors, got: No such file"):
        load_engine(folder, engine=engine)
    assert load_engine(folder, engine="onnxruntime").name == "onnxruntime"


@needs_native
@pytest.mark.parametrize("interface", [None, native.INTERFACE - 1])
def test_a_compiled_part_that_was_built_before_is_refused(
    small: Path, monkeypatch: pytest.MonkeyPatch, interface: int | None
) -> None:
    """It would read other arrays, or run on from states that should be 0, and nobody would notice."""
    if interface is None:
        monkeypatch.delattr(native._core, "interface")
    else:
        monkeypatch.setattr(native._core, "interface", interface)
    for name in ("native", "auto"):
        with pytest.raises(
            ModelError, match="expected the native engine of this version, found one that was"
        ):
            load_engine(small, engine=name)


@needs_native
def test_an_instruction_set_that_is_missing_is_no_reason_for_another_engine(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native._core, "instruction_sets", lambda: ["baseline"])
    with pytest.raises(ModelError, match=r"instruction set of this machine \(baseline\), got avx512"):
        load_engine(small, engine="auto", simd="avx512")


@needs_native
@pytest.mark.parametrize(
    ("content_type", "query", "size", "light"),
    [
        ("application/octet-stream", [], 784, True),
        ("application/octet-stream", [("seed", "7")], 784, True),
        ("application/octet-stream", [("raster", "all")], 784, False),
        ("application/octet-stream", [], 783, False),
        ("application/json", [], 784, False),
    ],
)
def test_what_is_classified_where_it_arrives(
    small: Path, content_type: str, query: list[tuple[str, str]], size: int, light: bool
) -> None:
    def classifier(simulator: Simulator) -> Classifier:
        nothing: Any = None  # nothing is recorded here
        return Classifier(Models({"small": simulator}, "small"), nothing, Settings())

    assert (
        classifier(Simulator(native.NativeEngine(small))).is_light(content_type, query, bytes(size)) is light
    )
    assert not classifier(Simulator(OnnxruntimeEngine(small))).is_light(content_type, query, bytes(size))


@needs_native
def test_unknown_instruction_set(small: Path) -> None:
    with pytest.raises(ModelError, match=r"expected auto or an instruction set of this machine .*, got mmx"):
        native.NativeEngine(small, "mmx")


# ------------------------------------------------------------------------------------------ the shipped model


@needs_native
@pytest.mark.slow
def test_all_test_images_are_the_same_on_every_engine(shipped: Simulator) -> None:
    from training.data import mnist

    root = mnist.data_folder()
    if not (root / "MNIST" / "raw" / "t10k-images-idx3-ubyte").is_file():
        pytest.skip("needs MNIST: set SPIKEHEAD_DATA to the folder that holds MNIST/raw")
    images, _ = mnist.load("test")
    folder = Path(__file__).resolve().parents[1] / "models" / shipped.card.name
    rule = Rule(shipped.card.max_steps, shipped.card.calibration.confidence)
    reference = OnnxruntimeEngine(folder, threads=2)
    engines = [native.NativeEngine(folder, simd) for simd in instruction_sets()]
    for start in range(0, len(images), 500):
        stimulus = Stimulus(images[start : start + 500], range(start, start + 500))
        expected = reference.classify(stimulus, rule)
        for engine in engines:
            for one, other in zip(engine.classify(stimulus, rule), expected, strict=True):
                same(one, other)
