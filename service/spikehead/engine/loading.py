"""Engines: what simulates a model. One protocol (`base`), one module an engine, identical spikes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import get_args

from spikehead.engine import native
from spikehead.engine.base import Engine
from spikehead.model.card import ModelError, load_card
from spikehead.settings import EngineName, Simd

log = logging.getLogger("spikehead")


def load_engine(folder: Path, engine: EngineName = "auto", simd: Simd = "auto", threads: int = 1) -> Engine:
    """Load the model in `folder` into the engine of that name. Raises ModelError.

    `auto` takes the native engine where it was built and can run the graph, and onnxruntime elsewhere. A conventional
    network always runs on onnxruntime: it has no spikes to compute with.
    """
    if engine not in get_args(EngineName):
        raise ModelError(f"expected an engine among {', '.join(get_args(EngineName))}, got {engine!r}")
    if load_card(folder).kind == "ann":
        from spikehead.engine.onnxruntime import OnnxruntimeEngine

        return OnnxruntimeEngine(folder, threads=threads)
    if engine == "native":
        return native.NativeEngine(folder, simd)
    if engine == "auto" and native.available():
        try:
            return native.NativeEngine(folder, simd)
        except native.ForeignGraphError as error:
            log.warning("the native engine refuses %s, onnxruntime runs it: %s", folder, error)
    from spikehead.engine.onnxruntime import OnnxruntimeEngine

    return OnnxruntimeEngine(folder, threads=threads)
