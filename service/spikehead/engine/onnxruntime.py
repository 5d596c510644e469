"""The engine that runs on any machine: the step graph under onnxruntime, images in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from spikehead.engine import stepping
from spikehead.engine.base import (
    Array,
    BatchStep,
    Outcome,
    Rule,
    SimulationState,
    StepCounts,
    Stimulus,
    TimeStep,
)
from spikehead.model.card import Card, ModelError, load_card
from spikehead.model.encoding import Encoder
from spikehead.model.synaptic_operations import SynapticOperations

NAME = "onnxruntime"


class OnnxruntimeEngine:
    """Runs a model folder under onnxruntime on the CPU. Safe to call from several threads.

    Raises ModelError if card or graph cannot be used, or do not belong together.
    """

    name = NAME

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self.card: Card = load_card(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        path = folder / self.card.graph.file
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no base class of its own
            raise ModelError(f"expected a graph that onnxruntime can run at {path}, got: {error}") from error
        self._operations = SynapticOperations(self.card)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._hidden = self.card.layer_names[1:-1]
        self._shown = "intensities" if self.card.kind == "ann" else "spikes"
        self._check_tensors(path)

    def _check_tensors(self, path: Path) -> None:
        card = self.card
        classes = card.layers[-1].shape
        states = {state.name: state.shape for state in card.states}
        hidden = {f"spikes.{layer.name}": layer.shape for layer in card.layers[1:-1]}
        inputs = {self._shown: card.layers[0].shape, "uniforms": classes, **states}
        outputs = dict.fromkeys(("potential", "spike_probability", "output_spikes"), classes)
        outputs |= {f"next_{name}": shape for name, shape in states.items()} | hidden
        for kind, expected, tensors in (
            ("inputs", inputs, self._session.get_inputs()),
            ("outputs", outputs, self._session.get_outputs()),
        ):
            found = {tensor.name: tensor.shape[1:] for tensor in tensors}
            wrong = {name for name in {*expected, *found} if expected.get(name) != found.get(name)}
            if wrong:
                raise ModelError(
                    f"expected {kind} { {name: expected.get(name) for name in sorted(wrong)} } of {path} (from its "
                    f"card), found { {name: found.get(name) for name in sorted(wrong)} }"
                )

    def classify(self, stimulus: Stimulus, rule: Rule, recorded: Sequence[str] = ()) -> list[Outcome]:
        if self.card.kind == "spiking" or len(stimulus.images) == 1:
            return stepping.classify(self, self._operations, stimulus, rule, recorded)
        # Sums of real numbers round otherwise in a batch of another size: one image at a time has one answer.
        outcomes: list[Outcome] = []
        for i, seed in enumerate(stimulus.seeds):
            one = Stimulus(stimulus.images[i : i + 1], [seed], stimulus.encoder)
            outcomes += stepping.classify(self, self._operations, one, rule, recorded)
        return outcomes

    def course(self, image: NDArray[np.uint8], seed: int, steps: int, encoder: Encoder) -> Iterator[TimeStep]:
        return stepping.course(self, image, seed, steps, encoder)

    def by_step(
        self, images: NDArray[np.uint8], seeds: Sequence[int], steps: int, encoder: Encoder
    ) -> StepCounts:
        return stepping.by_step(self, self._operations, Stimulus(images, seeds, encoder), steps)

    def initial_state(self, count: int) -> SimulationState:
        return {state.name: np.zeros((count, *state.shape), np.float32) for state in self.card.states}

    def step(self, state: SimulationState, spikes: Array, uniforms: Array) -> BatchStep:
        values = self._session.run(None, {self._shown: spikes, "uniforms": uniforms, **state})
        named: dict[str, Any] = dict(zip(self._outputs, values, strict=True))
        return BatchStep(
            potential=named["potential"],
            spike_probability=named["spike_probability"],
            output_spikes=named["output_spikes"],
            spikes={name: named[f"spikes.{name}"] for name in self._hidden},
            state={name: named[f"next_{name}"] for name in state},
        )
