"""Engines: what simulates a model. One protocol (`base`), one module an engine, identical spikes."""

from __future__ import annotations

import logging
from pathlib import Path

from spikehead.engine import native
from spikehead.engine.base import Engine
from spikehead.model.card import load_card
from spikehead.settings import Settings

log = logging.getLogger("spikehead")


def load_engine(folder: Path, settings: Settings) -> Engine:
    """The engine that `settings.engine` asks for, with the model in `folder`. Raises ModelError.

    `auto` takes the native engine where it was built and can run the graph, and onnxruntime elsewhere. A conventional
    network always runs on onnxruntime: it has no spikes to compute with.
    """
    if load_card(folder).kind == "ann":
        from spikehead.engine.onnxruntime import OnnxruntimeEngine

        return OnnxruntimeEngine(folder, threads=settings.threads)
    if settings.engine == "native":
        return native.NativeEngine(folder, settings.simd)
    if settings.engine == "auto" and native.available():
        try:
            return native.NativeEngine(folder, settings.simd)
        except native.ForeignGraphError as error:
            log.warning("the native engine refuses %s, onnxruntime runs it: %s", folder, error)
    from spikehead.engine.onnxruntime import OnnxruntimeEngine

    return OnnxruntimeEngine(folder, threads=settings.threads)
