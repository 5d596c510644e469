"""Model folders: a graph and its card, and copies with other numbers in the graph for experiments on a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from spikehead.model.card import CARD_FILE, Card, load_card

Change = Callable[[str, NDArray[Any]], NDArray[Any]]
"""From the name and values of a tensor to other values of its type and shape."""


def write(folder: Path, graph: bytes, card: Card) -> None:
    """Put graph and card into a folder."""
    (folder / card.graph.file).write_bytes(graph)
    write_card(folder, card)


def write_card(folder: Path, card: Card) -> None:
    """Put a card beside its graph. Whatever happens meanwhile, there is the old one or the new one."""
    new = folder / f"{CARD_FILE}.new"
    new.write_text(json.dumps(card.model_dump(exclude_none=True), indent=1) + "\n")
    new.replace(folder / CARD_FILE)


def write_changed(model: Path, folder: Path, change: Change) -> None:
    """Write a copy of the model in `model` to `folder`, with what `change` makes of each stored tensor.

    Raises ModelError if there is no model.
    """
    card = load_card(model)
    proto = onnx.load(model / card.graph.file)
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(
            numpy_helper.from_array(change(tensor.name, values).astype(values.dtype), tensor.name)
        )
    graph = proto.SerializeToString()
    described = card.graph.model_copy(update={"sha256": hashlib.sha256(graph).hexdigest()})
    folder.mkdir(parents=True, exist_ok=True)
    write(folder, graph, card.model_copy(update={"graph": described}))
