"""Records made by hand, with ids that say when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spikehead.records import Record, Recorder, time_of

BEGIN = 1_700_000_000  # seconds since 1970


def identifier(number: int, second: float | None = None) -> str:
    """Id of record `number`, made so many seconds after BEGIN (one a second unless told)."""
    moment = round((BEGIN + (number if second is None else second)) * 1e6) * 1000
    return f"{moment:016x}{number:08x}"


def record(number: int, second: float | None = None, **values: Any) -> Record:
    """Record `number`."""
    made = identifier(number, second)
    some: dict[str, Any] = {
        "id": made,
        "time": time_of(made),
        "model": "tiny",
        "model_version": "1.0.0",
        "image": bytes(784),
        "seed": number,
        "prediction": number % 10,
        "confidence": 0.5,
        "steps_used": 2,
        "stopped_by": "max_steps",
        "answer": b'{"prediction":3}',
    }
    return Record(**(some | values))


def numbers(records: list[Record]) -> list[int]:
    """Which ones they are."""
    return [int(one.id[16:], 16) for one in records]


def add_and_wait(recorder: Recorder, records: Sequence[Record], timeout: float) -> bool:
    """Add records, and wait until they are on disk. False if they are not after `timeout` seconds."""
    promise = recorder.add_promised(records)
    return promise is not None and promise.wait(timeout)
