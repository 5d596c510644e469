"""Engines: what simulates a model. One protocol (`base`), one module an engine, identical spikes."""

from __future__ import annotations

from pathlib import Path

from service.engine.base import Engine
from service.settings import Settings


def load_engine(folder: Path, settings: Settings) -> Engine:
    """The engine that `settings.engine` asks for, with the model in `folder`. Raises ModelError.

    `auto` takes the fastest engine that is installed: so far there is one.
    """
    from service.engine.onnxruntime import OnnxruntimeEngine

    return OnnxruntimeEngine(folder, threads=settings.threads)
