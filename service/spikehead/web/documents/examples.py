"""An example for every answer and body in the OpenAPI document; the tests hold them against the schemas."""

from __future__ import annotations

from typing import Any

from spikehead.errors import KINDS, Problem

ID = "18a5c0d2f3b4e6a1c2d3e4f5"
TIME = "2026-11-24T15:17:27.123Z"

CLASSIFICATION: dict[str, Any] = {
    "id": ID,
    "model": "spiking-mha",
    "model_version": "1.0.0",
    "engine": "onnxruntime",
    "prediction": 7,
    "confidence": 0.9968,
    "class_probabilities": [0.0001, 0.0002, 0.0008, 0.0006, 0.0001, 0.0001, 0.0, 0.9968, 0.0001, 0.0012],
    "spike_counts": {
        "input": 89,
        "layers": {"stem1": 489, "stem2": 457, "tokens": 168},
        "output": [0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
    },
    "steps_used": 1,
    "max_steps": 16,
    "stopped_by": "confidence",
    "confidence_threshold": 0.75,
    "seed": 7,
    "encoder": "bernoulli",
    "synaptic_operations": 285744,
    "synaptic_operations_by_kind": {"accumulates": 262544, "multiply_accumulates": 23200},
    "timings_ms": {"decode": 0.1012, "encode": 0.2511, "simulate": 0.4403},
    "raster": {"output": {"shape": [10], "events": [[0, 7]]}},
    "recorded": True,
}
_PLAIN = {name: value for name, value in CLASSIFICATION.items() if name != "raster"}
BATCH = {
    "results": [
        _PLAIN | {"filename": "7.png"},
        Problem("blank-image", KINDS["blank-image"].expected, KINDS["blank-image"].received).document(ID)
        | {"image": 1, "filename": "empty.png"},
    ]
}
_LISTED = ("model", "model_version", "prediction", "confidence", "steps_used", "stopped_by", "seed")
SUMMARY = {"id": ID, "time": TIME} | {name: CLASSIFICATION[name] for name in _LISTED}
REQUESTS = {"requests": [SUMMARY], "next": ID}


def _seven() -> list[list[int]]:
    """Draw a seven of straight strokes, 28 x 28."""
    rows = [[0] * 28 for _ in range(28)]
    for row in range(5, 8):
        rows[row][8:20] = [255] * 12
    for row in range(8, 24):
        left = 18 - (row - 8) // 2
        rows[row][left : left + 3] = [255] * 3
    return rows


PIXELS = _seven()
PNG_BASE64 = (
    "iVBORw0KGgoAAAANSUhEUgAAABwAAAAcCAAAAABXZoBIAAAAQElEQVR42mNgGGSAEcb4j0WQCZ9OJqKMRYD/cFESjf1ProOQNJKmE1kjSTpR"
    "NJKiE1UjCTrRNBKvE10jfp0DAQAZPwklKSb92AAAAABJRU5ErkJggg=="
)
STORED = {"time": TIME, "pixels": PIXELS, "answer": _PLAIN}
STATISTICS: dict[str, Any] = {
    "model": "spiking-mha",
    "model_version": "1.0.0",
    "requests": 128,
    "predictions": [10, 14, 12, 12, 12, 11, 12, 13, 12, 12],
    "steps": [96, 12, 6, 3, 1, 1, 0, 1],
    "mean_steps": 1.4,
    "mean_confidence": 0.991,
    "stopped_by_confidence": 119,
    "synaptic_operations": {"accumulates": 404498.0, "multiply_accumulates": 30245.0},
    "energy_nj": 19.1,
    "layers": [
        {
            "name": "tokens",
            "firing_rate": 0.031,
            "normal_rate": 0.03,
            "z": 0.1,
            "drift": False,
            "neurons": 4704,
            "silent": 812,
            "saturated": 0,
        }
    ],
    "compared": 128,
    "drift": False,
    "drifting_layers": [],
    "drift_reasons": [],
}
MODELS = {
    "default": "spiking-mha",
    "models": [
        {
            "name": "spiking-mha",
            "version": "1.0.0",
            "description": "Spiking network with multi-head self-attention.",
            "engine": "onnxruntime",
            "max_steps": 16,
            "confidence": 0.75,
            "layers": ["input", "stem1", "stem2", "tokens", "output"],
        }
    ],
}
READY = {
    "status": "ready",
    "models": [{"name": "spiking-mha", "version": "1.0.0", "engine": "onnxruntime"}],
    "refused_models": None,
    "records": {"status": "ok", "reason": None, "waiting": 0, "dropped": 0},
}
MODEL_CARD = {
    "engine": "onnxruntime",
    "card": {
        "schema_version": 1,
        "name": "spiking-mha",
        "version": "1.0.0",
        "description": "Spiking network with multi-head self-attention.",
        "licence": "Apache-2.0",
        "graph": {"file": "model.onnx", "sha256": "5e" * 32},
        "arrays": {"file": "arrays.safetensors", "sha256": "a5" * 32},
        "max_steps": 2,
        "layers": [
            {
                "name": "input",
                "shape": [1, 28, 28],
                "fan_out": {"targets": 32, "rows": [2] * 28, "columns": [2] * 28},
                "tau": None,
                "v_threshold": None,
                "normal_rate": 0.1257,
                "normal_rate_std": 0.0379,
            },
            {
                "name": "output",
                "shape": [10],
                "fan_out": {"targets": 10, "rows": None, "columns": None},
                "tau": None,
                "v_threshold": None,
                "normal_rate": 0.09,
                "normal_rate_std": 0.02,
            },
        ],
        "rate_slope": 1,
        "reset_interval": None,
        "states": [{"name": "state.input", "shape": [1, 28, 28]}],
        "kernels": {"A": {"tau": 1.4427, "shift": 1, "unit": 16, "use": "filtered spike trains"}},
        "potential_scale": 0.00372,
        "calibration": {"scale": [1.25, 0.55], "confidence": 0.75, "expected_calibration_error": 0.004},
        "parameters": 127540,
        "bits": 8,
        "accuracy": {},
        "energy": {},
        "training": {},
    },
}
LIVE = {"status": "alive"}
