"""Export: from a checkpoint to `models/<name>/`, the one thing that training and service share.

Writes the step graph and its arrays, simulates the validation set, fits calibration and stopping rule there,
notes the normal firing rates, and writes the card. It checks itself: torch, onnxruntime and the native engine must
give the same spikes in every layer, or nothing is written.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from spikehead.engine import native
from spikehead.engine.base import Engine, StepCounts, SteppingEngine
from spikehead.engine.loading import load_engine
from spikehead.engine.onnxruntime import OnnxruntimeEngine
from spikehead.model.card import SCHEMA_VERSION, Card, ModelError, Normal, Spread, load_card
from spikehead.model.encoding import encode
from spikehead.model.retina import contrast
from spikehead.settings import load_settings

from training.data import mnist, unipen
from training.export import ann_graph
from training.export.ann_graph import AnyAnn
from training.export.arrays import ARRAYS_FILE, arrays_of, check_engines
from training.export.graph import V_THRESHOLD, ExportError, build
from training.fit.train import TrainingSettings, load_network
from training.measure.calibrate import choose_confidence, expected_calibration_error, fit_scale, softmax, stop
from training.measure.evaluate import simulate
from training.measure.model_folder import hashed, write, write_card
from training.network.layers import layers_of
from training.network.neurons import tau_of_shift
from training.network.spiking import CLASSES, Kind, SpikingNetwork

GRAPH_FILE = "model.onnx"
DESCRIPTIONS: dict[Kind, str] = {
    "spiking-mha": "Spiking network with multi-head self-attention and probabilistic output neurons; reads a digit.",
    "glm": "Probabilistic output neurons on filtered pixels alone (GLM), no hidden layer; reads a digit.",
}
SELF_CHECK_IMAGES = 100
PARITY_STEPS = 400
"""Of all images of a portion together: every spike of them is in memory at once."""

MAX_STEPS = 16
"""Unless something else is asked for: four looks of four steps."""

CALIBRATION_SEED = 99
CALIBRATION_RUNS = 100_000
"""So many runs of validation images the stopping rule is chosen by: by 15,000 it was luck whether images took 1.1 or
1.4 steps.
"""
MOST_CALIBRATION_SEEDS = 40


def calibration_seeds(images: int, max_steps: int = MAX_STEPS) -> int:
    """Encoder seeds with which each of so many validation images is simulated. Of longer runs fewer fit into memory."""
    runs = min(CALIBRATION_RUNS, CALIBRATION_RUNS * MAX_STEPS // max_steps)
    return min(-(-runs // images), MOST_CALIBRATION_SEEDS)


def calibration_seeds_of(card: Card, images: int) -> int:
    """The same for a model: one where there is no chance."""
    return 1 if card.kind == "ann" else calibration_seeds(images, card.max_steps)


def export(
    checkpoint: Path,
    folder: Path,
    validation: tuple[NDArray[np.uint8], NDArray[np.int64]],
    self_check: NDArray[np.uint8],
    *,
    max_steps: int = MAX_STEPS,
    reset_interval: int | None = None,
    version: str = "1.0.0",
    command: str = "",
    started_from: dict[str, Any] | None = None,
    seeds: int | None = None,
    progress: Callable[[int], None] = lambda images_done: None,
) -> Card:
    """Write graph, arrays and card of a checkpoint's network to `folder`; returns the card.

    validation: images uint8 [N, 28, 28] and labels [N]; each is simulated with so many encoder `seeds`
    (None: `calibration_seeds`), by the engine that the service would take. self_check: images uint8 [N, 28, 28].
    started_from: the model with whose weights training began (`training.fit.restore.origin`), for the card.
    reset_interval: steps after which its state begins anew, 0 for never, None for as many as training simulated: it
    has seen no state that is older.
    Without a compiled native engine no arrays are written: they could not be checked.
    Raises ExportError if torch, onnxruntime and the native engine disagree in a single spike.
    """
    network, settings, contents = load_network(checkpoint)
    graph = build(network, folder.name).SerializeToString()
    arrays = arrays_of(graph) if native.available() else None
    interval = reset_interval_of(settings) if reset_interval is None else reset_interval
    draft = _draft_card(network, folder.name, version, graph, max_steps, interval or None, arrays)
    with tempfile.TemporaryDirectory() as temporary:
        write(Path(temporary), graph, draft, arrays)
        reference = OnnxruntimeEngine(Path(temporary))
        check_parity(network, reference, self_check, max_steps)
        if arrays is not None:
            check_engines(reference, native.NativeEngine(Path(temporary)), self_check, max_steps)
        trials = _trials(
            load_engine(Path(temporary), *load_settings().simulation), validation[0], seeds, progress
        )
    card = _calibrated(draft, trials, *validation)
    trained = {
        "command": command,
        "settings": settings.as_dict(),
        "epochs_done": contents["epoch"],
        "data_sha256": contents["data_sha256"],
        **({"data": f"MNIST; {unipen.CREDIT}"} if settings.unipen else {}),
        "commit": _commit(),
        "torch": torch.__version__,
    }
    if started_from is not None:
        trained["started_from"] = started_from
    card = Card.model_validate({**card.model_dump(), "training": trained})
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, graph, card, arrays)
    return card


def export_ann(
    network: AnyAnn,
    folder: Path,
    validation: tuple[NDArray[np.uint8], NDArray[np.int64]],
    trained: dict[str, Any],
    *,
    version: str = "1.0.0",
    description: str = "",
) -> Card:
    """Write a conventional network as a model of one time step that the service can answer with; returns its card.

    `trained` says how it was trained. Its "spikes" are values that are not 0, its operations multiply-accumulates.
    """
    proto, described = ann_graph.build(network, folder.name)
    graph = proto.SerializeToString()
    layers = [
        {"name": name, "shape": shape, "fan_out": described.fan_outs[name]}
        for name, shape in described.shapes.items()
    ]
    draft = Card.model_validate(
        {
            "schema_version": SCHEMA_VERSION,
            "name": folder.name,
            "version": version,
            "description": description,
            "licence": "Apache-2.0",
            "graph": hashed(GRAPH_FILE, graph),
            "max_steps": 1,
            "layers": layers,
            "kind": "ann",
            "fixed_multiply_accumulates": described.fixed_multiply_accumulates,
            "states": [],
            "kernels": {},
            "potential_scale": ann_graph.POTENTIAL_UNIT,
            "calibration": {"scale": [1.0], "confidence": 1.0},
            "parameters": sum(p.numel() for p in network.parameters()),
            "bits": 32,
        }
    )
    with tempfile.TemporaryDirectory() as temporary:
        write(Path(temporary), graph, draft)
        engine = OnnxruntimeEngine(Path(temporary))
        check_ann(network, engine, validation[0][:SELF_CHECK_IMAGES])
        trials = _trials(engine, validation[0], None, lambda done: None)
    card = _calibrated(draft, trials, *validation)
    trained = {**trained, "commit": _commit(), "torch": torch.__version__}
    card = Card.model_validate({**card.model_dump(), "training": trained})
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, graph, card)
    return card


def recalibrate(
    folder: Path,
    version: str,
    validation: tuple[NDArray[np.uint8], NDArray[np.int64]],
    *,
    seeds: int | None = None,
    progress: Callable[[int], None] = lambda images_done: None,
) -> Card:
    """Write `folder/card.json` anew for the same graph: calibration, stopping rule, normal rates, validation figures.

    For when something before the graph has changed, as the retina. It answers otherwise then, so its version has to be
    another: records of the old one are not replayed. Arguments as of `export`. Raises ModelError for the version that
    it has, and for none.
    """
    before = load_card(folder)
    if not version.strip():
        raise ModelError(f"expected a version such as 1.2.0, got {version!r}")
    if version == before.version:
        raise ModelError(f"expected another version than {version}, which {before.name} has: records name it")
    trials = _trials(load_engine(folder, *load_settings().simulation), validation[0], seeds, progress)
    card = _calibrated(before.model_copy(update={"version": version}), trials, *validation)
    notes = [*before.training.get("recalibrated", []), {"from_version": before.version, "commit": _commit()}]
    card = Card.model_validate({**card.model_dump(), "training": {**before.training, "recalibrated": notes}})
    write_card(folder, card)
    return card


def _trials(
    engine: Engine, images: NDArray[np.uint8], seeds: int | None, progress: Callable[[int], None]
) -> list[StepCounts]:
    """All images with each of so many encoder seeds; None: `calibration_seeds_of` the model."""
    steps = engine.card.max_steps
    trials = []
    for number in range(seeds or calibration_seeds_of(engine.card, len(images))):

        def of_all(done: int, before: int = number * len(images)) -> None:
            progress(before + done)

        trials.append(simulate(engine, images, CALIBRATION_SEED + number, steps, progress=of_all))
    return trials


def reset_interval_of(settings: TrainingSettings) -> int:
    """Steps after which the state begins anew unless something else is asked for: training has seen no older one."""
    return settings.final_time_steps


def check_ann(network: AnyAnn, engine: OnnxruntimeEngine, images: NDArray[np.uint8]) -> None:
    """Raise ExportError unless torch and the engine agree in every logit, to a thousandth."""
    with torch.no_grad():
        expected = network.eval()(mnist.firing_probabilities(images)).numpy()
    found = engine.by_step(images, range(len(images)), 1, "bernoulli").potentials[0]
    distance = float(np.abs(found * ann_graph.POTENTIAL_UNIT - expected).max())
    if not distance < 1e-3:
        raise ExportError(f"expected the same logits from torch and {engine.name}, got {distance:g} apart")


def check_parity(
    network: SpikingNetwork, engine: SteppingEngine, images: NDArray[np.uint8], steps: int
) -> None:
    """Raise ExportError unless torch and the engine agree in every spike and potential of every step.

    Without a reset: states that are older than any in use have to agree too.
    """
    some = max(1, PARITY_STEPS // steps)
    for start in range(0, len(images), some):
        chunk = images[start : start + some]
        trains, uniforms = encode(
            contrast(chunk), range(start, start + len(chunk)), steps, slope=network.config.rate_slope
        )
        with torch.no_grad():
            run = network(torch.from_numpy(trains), torch.from_numpy(uniforms))
        state = engine.initial_state(len(chunk))
        for t in range(steps):
            step = engine.step(state, trains[t], uniforms[t])
            state = step.state
            pairs = {name: (step.spikes[name], values[t]) for name, values in run.layers.items()}
            pairs["potential"] = step.potential, run.integer_potentials[t]
            pairs["spike_probability"] = step.spike_probability, run.spike_probabilities[t]
            pairs["output_spikes"] = step.output_spikes, run.output_spikes[t]
            for name, (found, expected) in pairs.items():
                different = int((found != expected.numpy()).sum())
                if different:
                    raise ExportError(
                        f"expected the same {name} from torch and {engine.name}, got {different} differences "
                        f"at step {t + 1} in images {start} to {start + len(chunk) - 1}"
                    )


def _draft_card(
    network: SpikingNetwork,
    name: str,
    version: str,
    graph: bytes,
    max_steps: int,
    reset_interval: int | None = None,
    arrays: bytes | None = None,
) -> Card:
    """The card as far as the network alone decides it; calibration comes later."""
    config = network.config
    layers, thresholds = layers_of(config), v_thresholds(graph)
    tau = tau_of_shift(config.shift_membrane)
    for layer, values in thresholds.items():
        layers[layer] = layers[layer].model_copy(update={"tau": tau, "v_threshold": values})
    remembering = ("readout", "feedback") if thresholds else ("feedback",)
    states = [{"name": f"state.{layer}", "shape": layers[layer].shape} for layer in ("input", *thresholds)]
    states += [{"name": f"state.{neurons}", "shape": [CLASSES]} for neurons in remembering]
    kernels = [
        ("A", config.shift_input, config.trace_unit, "filtered spike trains, after the rate encoder"),
        ("B", config.shift_feedback, -config.trace_unit, "feedback of the output spikes"),
    ]
    if thresholds:
        kernels += [
            ("membrane", config.shift_membrane, 1, "leak of the hidden neurons"),
            ("readout", config.shift_readout, 1, "filter of the tokens' spikes, after the weights"),
        ]
    return Card.model_validate(
        {
            "schema_version": SCHEMA_VERSION,
            "name": name,
            "version": version,
            "description": DESCRIPTIONS[config.kind],
            "licence": "Apache-2.0",
            "graph": hashed(GRAPH_FILE, graph),
            "arrays": hashed(ARRAYS_FILE, arrays) if arrays is not None else None,
            "max_steps": max_steps,
            "reset_interval": reset_interval,
            "layers": [layer.model_dump() for layer in layers.values()],
            "states": states,
            "rate_slope": config.rate_slope,
            "kernels": {
                key: {"shift": shift, "unit": unit, "use": use, "tau": tau_of_shift(shift)}
                for key, shift, unit, use in kernels
            },
            "potential_scale": float(network.readout.constants(integer=True)[3]),
            "calibration": {"scale": [1.0 / (t + 1) for t in range(max_steps)], "confidence": 1.0},
            "parameters": sum(p.numel() for p in network.parameters()),
            "bits": config.bits,
        }
    )


def v_thresholds(graph: bytes) -> dict[str, list[int]]:
    """Read the integer threshold of each channel of each hidden layer from a step graph, in layer order."""
    stored = {one.name: one for one in onnx.load_from_string(graph).graph.initializer}
    return {
        name.removesuffix(V_THRESHOLD): numpy_helper.to_array(values).astype(int).flatten().tolist()
        for name, values in stored.items()
        if name.endswith(V_THRESHOLD)
    }


def normal_of(images: NDArray[np.uint8], confidence: NDArray[np.float64]) -> Normal:
    """What is normal. images uint8 [N, 28, 28]; confidence [N] of their answers."""

    def spread(values: NDArray[np.float64]) -> Spread:
        return Spread(mean=round(float(values.mean()), 6), std=round(float(values.std()), 6))

    return Normal(brightness=spread(images.mean((1, 2))), confidence=spread(confidence))


def _calibrated(
    draft: Card, trials: Sequence[StepCounts], images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> Card:
    """Fit scales and confidence on validation; note normal rates and validation accuracy. Over trials of all images."""
    labels = np.tile(labels, len(trials))
    potentials = np.concatenate([trial.potentials for trial in trials], 1)
    evidence = potentials.cumsum(0) * draft.potential_scale  # [T, N * trials, 10] logits
    scale = [fit_scale(step, labels) for step in evidence]
    probabilities = np.stack([softmax(step * factor) for step, factor in zip(evidence, scale, strict=True)])
    confidence = choose_confidence(probabilities, labels)
    stopped = stop(probabilities, confidence)
    error = expected_calibration_error(stopped.probabilities, labels)
    # Normal is what the service sees: of each image the steps until it stops.
    ran = np.arange(len(scale))[:, None] < stopped.steps  # [T, N]
    layers = []
    for layer in draft.layers:
        spikes = np.concatenate([trial.spikes[layer.name] for trial in trials], 1)
        rate = (spikes * ran).sum(0) / (stopped.steps * layer.size)  # [N * trials], by image
        rates = {"normal_rate": round(float(rate.mean()), 6), "normal_rate_std": round(float(rate.std()), 6)}
        layers.append({**layer.model_dump(), **rates})
    accuracy = {
        "set": f"validation: the last {len(images):,} training images",
        "images": len(images),
        "seeds": len(trials),
        "by_step": [round(float((p.argmax(-1) == labels).mean()), 6) for p in probabilities],
        "stopping": round(stopped.accuracy(labels), 6),
        "average_steps": round(float(stopped.steps.mean()), 4),
    }
    calibration = {"scale": scale, "confidence": confidence, "expected_calibration_error": round(error, 6)}
    return Card.model_validate(
        {
            **draft.model_dump(),
            "layers": layers,
            "calibration": calibration,
            "normal": normal_of(images, stopped.probabilities.max(-1)).model_dump(),
            "accuracy": {"validation": accuracy},
        }
    )


def _commit() -> str:
    """The commit that the code stands at, `unknown` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).resolve().parent), "rev-parse", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git
        return "unknown"
    return result.stdout.strip() or "unknown"
