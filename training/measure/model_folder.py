"""Model folders: graph, arrays and card, and copies with other numbers in them for experiments on a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.numpy import load, save
from spikehead.model.card import CARD_FILE, Card, load_card, read_checked

Change = Callable[[str, NDArray[Any]], NDArray[Any]]
"""From the name and values of a tensor to other values of its type and shape."""


def hashed(file: str, content: bytes) -> dict[str, str]:
    """Name a file of a model folder and its SHA-256, as its card does."""
    return {"file": file, "sha256": hashlib.sha256(content).hexdigest()}


def write(folder: Path, graph: bytes, card: Card, arrays: bytes | None = None) -> None:
    """Put graph, arrays and card into a folder."""
    (folder / card.graph.file).write_bytes(graph)
    if card.arrays and arrays is not None:
        (folder / card.arrays.file).write_bytes(arrays)
    write_card(folder, card)


def write_card(folder: Path, card: Card) -> None:
    """Put a card beside its graph. Whatever happens meanwhile, there is the old one or the new one."""
    new = folder / f"{CARD_FILE}.new"
    new.write_text(json.dumps(card.model_dump(exclude_none=True), indent=1) + "\n")
    new.replace(folder / CARD_FILE)


def write_changed(model: Path, folder: Path, change: Change) -> None:
    """Write a copy of the model in `model` to `folder`, with what `change` makes of each tensor of its graph.

    Raises ModelError if there is no model.
    """
    card = load_card(model)
    proto = onnx.load(model / card.graph.file)
    arrays = load(read_checked(model, card.arrays)) if card.arrays else {}
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        values = change(tensor.name, values).astype(values.dtype)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        name = tensor.name.removesuffix(".int8")
        if name in arrays:
            arrays[name] = np.ascontiguousarray(values, arrays[name].dtype)
    graph, stored = proto.SerializeToString(), save(arrays)
    files = {"graph": hashed(card.graph.file, graph)}
    if card.arrays:
        files["arrays"] = hashed(card.arrays.file, stored)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, graph, Card.model_validate({**card.model_dump(), **files}), stored)
