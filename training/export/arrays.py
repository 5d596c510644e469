"""The arrays that the native engine reads: the whole numbers of a step graph, beside it in one file of safetensors.

An array has the name and the values of the graph's tensor. What the graph says by shapes, a permutation and a node,
the engine reads as numbers: `heads`, `sides` (where a token reads each channel from: 0 itself, 1 above, 2 below,
3 left, 4 right) and `sigmoid.shift`.
"""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.numpy import save
from spikehead.engine import native
from spikehead.engine.base import Engine, Rule, Stimulus
from spikehead.engine.onnxruntime import OnnxruntimeEngine
from spikehead.model.card import Card, ModelError

from training.export.graph import ExportError
from training.measure.model_folder import hashed, write, write_card

ARRAYS_FILE = "arrays.safetensors"
CHECK_IMAGES = 100
CHECKED_AT_ONCE = 10
"""Images of which every spike is in memory."""

GRAPH_ALONE = ("number.", "shape.", "neighbours")
"""How the names of constants begin that are no parameters of the network."""


def arrays_of(graph: bytes) -> bytes:
    """Collect the arrays of a step graph that the export wrote, as a file."""
    model = onnx.load_from_string(graph)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    arrays: dict[str, NDArray[Any]] = {}
    for name, values in tensors.items():
        if not name.startswith(GRAPH_ALONE):
            whole = values if values.dtype == np.int8 else values.astype(np.int32)
            if name != "sigmoid" and (whole != values).any():
                raise ExportError(f"expected whole numbers in {name}, got others")
            arrays[name.removesuffix(".int8")] = whole
    arrays["sigmoid"] = tensors["sigmoid"]
    coarse = [tensors[node.input[1]] for node in model.graph.node if node.name == "potential.part"]
    arrays["sigmoid.shift"] = np.array(-math.log2(coarse[0]) if coarse else 0, np.int32)
    if "shape.heads" in tensors:
        arrays["heads"] = np.array(tensors["shape.heads"][2], np.int32)
    if "neighbours" in tensors:
        _, tokens, channels = tensors["shape.tokens"].tolist()
        side = math.isqrt(tokens)
        here = side + 1  # it has all its neighbours
        around = [here, here - side, here + side, here - 1, here + 1]
        sources = tensors["neighbours"].reshape(tokens, channels)[here] // channels
        arrays["sides"] = np.array([around.index(source) for source in sources.tolist()], np.int8)
    return save(arrays)


def check_engines(expected: Engine, found: Engine, images: NDArray[np.uint8], steps: int) -> None:
    """Raise ExportError unless two engines agree in every spike and potential. images uint8 [N, 28, 28]."""
    for first in range(0, len(images), CHECKED_AT_ONCE):
        chunk = images[first : first + CHECKED_AT_ONCE]
        one, other = (_run(engine, chunk, steps) for engine in (expected, found))
        for name, values in one.items():
            if different := int((values != other[name]).sum()):
                raise ExportError(
                    f"expected the same {name} from {expected.name} and {found.name}, got {different} differences "
                    f"in images {first} to {first + len(chunk) - 1}"
                )


def _run(engine: Engine, images: NDArray[np.uint8], steps: int) -> dict[str, NDArray[Any]]:
    """Simulate all steps; return the spikes of each layer, and the potentials before those of the output neurons."""
    seeds, layers = range(len(images)), engine.card.layer_names
    outcomes = engine.classify(Stimulus(images, seeds), Rule(steps, 2.0), layers)
    found = {name: np.stack([one.recorded[name] for one in outcomes]) for name in layers}
    output = found.pop("output")
    potentials = engine.by_step(images, seeds, steps, "bernoulli").potentials
    return {**found, "potential": potentials, "output": output}


def add_arrays(folder: Path) -> Card:
    """Write the arrays of a model that was exported without them, and name them in its card.

    Raises ModelError if the native engine cannot run it, ExportError if it gives other spikes than onnxruntime.
    """
    reference = OnnxruntimeEngine(folder)
    card = reference.card
    if card.kind != "spiking":
        raise ModelError(
            f"expected a spiking model, got {card.name} of kind {card.kind}: onnxruntime runs it"
        )
    graph = (folder / card.graph.file).read_bytes()
    try:
        arrays = arrays_of(graph)
    except (KeyError, ValueError, IndexError) as error:
        raise ModelError(
            f"expected a graph that `export` wrote in {folder}, got one without: {error}"
        ) from error
    card = Card.model_validate({**card.model_dump(), "arrays": hashed(ARRAYS_FILE, arrays)})
    with TemporaryDirectory() as temporary:
        write(Path(temporary), graph, card, arrays)
        check_engines(reference, native.NativeEngine(Path(temporary)), _pictures(), card.max_steps)
    (folder / ARRAYS_FILE).write_bytes(arrays)
    write_card(folder, card)
    return card


def _pictures() -> NDArray[np.uint8]:
    """Draw pictures of random blocks, more and less full: uint8 [N, 28, 28]."""
    random = np.random.default_rng(0)
    lit = random.random((CHECK_IMAGES, 7, 7)) < random.random((CHECK_IMAGES, 1, 1))
    return np.kron(lit * random.integers(64, 256, lit.shape), np.ones((4, 4))).astype(np.uint8)
