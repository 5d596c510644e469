"""Made-up lines of the table."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from training.comparison.measure import Row


def row(name: str = "glm", **changes: Any) -> Row:
    """A line of the table, made up."""
    made = Row(
        name=name,
        title="GLM output neurons alone",
        epochs=8,
        accuracy=0.98765,
        accuracy_std=0.00042,
        accuracy_first=0.97531,
        by_confidence=[],
        parameters=7860,
        bytes=12_345,
        steps=3.14159,
        firing_rate=None,
        dense_multiply_accumulates=24_630.4,
        accumulates=0.0,
        multiply_accumulates=3456.7,
        energy_fp32_nj=15.9,
        energy_int8_nj=0.795,
        handwriting=0.8642,
        robustness=0.5432,
        latency_onnxruntime=1.234,
        latency_native=0.0567,
    )
    return replace(made, **changes)


def contents_of(*rows: Row) -> dict[str, Any]:
    return {
        "command": "python -m training compare --retrain --epochs 8",
        "date": "2026-01-02",
        "test_images": 10_000,
        "rows": [asdict(one) for one in rows],
    }
