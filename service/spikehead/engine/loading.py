"""Loads the engine that simulates a model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import get_args

from spikehead.engine import native
from spikehead.engine.base import Engine
from spikehead.engine.native.arrays import ForeignModelError
from spikehead.model.card import ModelError, load_card
from spikehead.settings import EngineName, Simd

log = logging.getLogger("spikehead")


def load_engine(folder: Path, engine: EngineName = "auto", simd: Simd = "auto", threads: int = 1) -> Engine:
    """Load the model in `folder` into the engine of that name. Raises ModelError.

    `auto` takes the native engine if it was built and the model has arrays that it can run, else onnxruntime. A
    conventional network always runs on onnxruntime: it has no spikes to compute with. `simd` is the instruction set
    of the native engine, `threads` those of onnxruntime.
    """
    if engine not in get_args(EngineName):
        raise ModelError(f"expected an engine among {', '.join(get_args(EngineName))}, got {engine!r}")
    wants_native = engine == "native" or (engine == "auto" and native.available())
    if wants_native and load_card(folder).kind == "spiking":
        try:
            return native.NativeEngine(folder, simd)
        except ForeignModelError as error:
            if engine == "native":
                raise
            log.warning("the native engine refuses %s, onnxruntime runs it: %s", folder, error)
    from spikehead.engine.onnxruntime import OnnxruntimeEngine

    return OnnxruntimeEngine(folder, threads=threads)
