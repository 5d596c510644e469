"""The store of records, with a million of them in it: `python -m benchmarks.records`.

Fills a temporary SQLite file, asks what `GET /spikes` can be asked, and writes. The records are made up: their
answers are of usual size, one in ten thousand comes from a rare model, and confidences are spread as the test set's.
`--url` takes another database, empty, that is left with the records in it.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pydantic_core import to_json
from spikehead.model.card import load_card
from spikehead.records import Filter, Ids, Record, Recorder, RecordPage, Store, first_id, schema, time_of
from spikehead.records.database import Database
from spikehead.records.query import Position, cursor
from sqlalchemy import insert

from benchmarks.machine import processor, today
from benchmarks.pictures import SHIPPED

DAYS = 30
TIMES = 21
"""Each question is asked so often; the median counts."""

KINDS = 64
UNSURE = 0.03
"""Share of the records, the oldest ones, whose network was at a loss."""

LIMIT_MS = 50.0
PAGE = 100


def picture(seed: int) -> bytes:
    """A blurred stroke: as many grey levels in a row as a digit has."""
    drawn = np.random.default_rng(seed)
    image = np.zeros((28, 28))
    x, y = drawn.uniform(8, 20, 2)
    rows, columns = np.mgrid[:28, :28]
    for _ in range(40):
        x, y = np.clip(np.array([x, y]) + drawn.normal(0, 1.5, 2), 5, 22)
        image = np.maximum(image, np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 1.5))
    return (255 * image * (image > 0.05)).astype(np.uint8).tobytes()


def answer(seed: int) -> bytes:
    """As long and as varied as the shipped model's."""
    drawn = random.Random(seed)
    counts = {name: drawn.randrange(400) for name in load_card(SHIPPED).layer_names[1:-1]}
    return to_json(
        {
            "id": f"{drawn.getrandbits(96):024x}",
            "model": "spiking-mha",
            "model_version": "1.0.0",
            "engine": "native",
            "prediction": seed % 10,
            "confidence": drawn.random(),
            "class_probabilities": [drawn.random() ** 9 for _ in range(10)],
            "spike_counts": {"input": drawn.randrange(200), "layers": counts, "output": [0] * 10},
            "steps_used": 1,
            "max_steps": 16,
            "stopped_by": "confidence",
            "confidence_threshold": 0.99,
            "seed": drawn.getrandbits(64),
            "encoder": "bernoulli",
            "synaptic_operations": drawn.randrange(300_000),
            "synaptic_operations_by_kind": {
                "accumulates": drawn.randrange(300_000),
                "multiply_accumulates": drawn.randrange(20_000),
            },
            "timings_ms": {
                "decode": 0.01,
                "encode": round(drawn.random(), 4),
                "simulate": round(drawn.random(), 4),
            },
        }
    )


def made_up(count: int, now: float) -> Iterator[Record]:
    """Records of the last DAYS, oldest first. Sixty-four pictures and answers take turns."""
    drawn = random.Random(7)
    pictures = [picture(seed) for seed in range(KINDS)]
    answers = [answer(seed) for seed in range(KINDS)]
    begin = now - DAYS * 86_400
    for number in range(count):
        moment = round((begin + number * DAYS * 86_400 / count) * 1e9)
        identifier = f"{moment:016x}{drawn.getrandbits(32):08x}"
        sure = 1 - drawn.expovariate(1.0) ** 4 / 1000  # 0.9 and less: one in thirty
        yield Record(
            id=identifier,
            time=time_of(identifier),
            model="rare" if number % 10_000 == 5 else ("spiking-mha", "ann-twin")[number % 10 == 0],
            model_version="1.0.0",
            image=pictures[number % KINDS],
            seed=drawn.getrandbits(64),
            prediction=drawn.randrange(10),
            confidence=0.05 if number < UNSURE * count else max(0.1, sure),
            steps_used=min(8, 1 + int(drawn.expovariate(2.0))),
            stopped_by="confidence",
            answer=answers[number % KINDS],
        )


def fill(url: str, count: int, now: float) -> None:
    """Faster than a recorder would: the disk is not waited for."""
    database = Database(url, patience=5.0)
    database.open()
    columns = [column.name for column in schema.records.columns]
    records = made_up(count, now)
    with database.writing.connect() as connection:
        if database.dialect == "sqlite":
            connection.connection.dbapi_connection.execute("PRAGMA synchronous = OFF")  # type: ignore[union-attr]
        while group := list(islice(records, 10_000)):
            rows = [dict(zip(columns, row, strict=True)) for row in schema.rows(group)]
            with connection.begin():
                connection.execute(insert(schema.records), rows)
    database.close()


def questions(now: float) -> dict[str, tuple[Filter, RecordPage]]:
    """Queries of the store, each for a page of PAGE records."""
    day = 86_400
    newest, unsure = RecordPage(PAGE), RecordPage(PAGE, order="confidence")
    asked: dict[str, Filter] = {
        "all": Filter(),
        "model=spiking-mha": Filter(model="spiking-mha"),
        "model=rare": Filter(model="rare"),
        "model=unknown": Filter(model="unknown"),
        "prediction=3": Filter(prediction=3),
        "confidence_below=0.99": Filter(confidence_below=0.99),
        "confidence_below=0.9": Filter(confidence_below=0.9),
        "confidence_below=0.2": Filter(confidence_below=0.2),
        "confidence_below=0.1": Filter(confidence_below=0.1),
        "steps_at_least=2": Filter(steps_at_least=2),
        "steps_at_least=8": Filter(steps_at_least=8),
        "since an hour ago": Filter(since=now - day / 24),
        "until 29 days ago": Filter(until=now - 29 * day),
        "since 20 until 19 days ago": Filter(since=now - 20 * day, until=now - 19 * day),
        "model=rare, confidence_below=0.9": Filter(model="rare", confidence_below=0.9),
        "model=spiking-mha, steps_at_least=8": Filter(model="spiking-mha", steps_at_least=8),
        "prediction=3, until 29 days ago": Filter(prediction=3, until=now - 29 * day),
    }
    found = {f"newest: {name}": (wanted, newest) for name, wanted in asked.items()}
    middle = cursor(Position(first_id(now - 15 * day), 0.5))
    found["newest: all, from the middle"] = (Filter(), RecordPage(PAGE, before=middle))
    found["newest: confidence_below=0.2, from the middle"] = (
        Filter(confidence_below=0.2),
        RecordPage(PAGE, before=middle),
    )
    found["newest: all, a page of 1,000"] = (Filter(), RecordPage(1000))
    for name in (
        "all",
        "model=rare",
        "prediction=3",
        "steps_at_least=8",
        "since an hour ago",
        "until 29 days ago",
    ):
        found[f"least sure: {name}"] = (asked[name], unsure)
    return found


def timed(work: Callable[[], Any], times: int = TIMES) -> dict[str, float]:
    """Median and worst of some runs, in milliseconds, and the processor's share, which other programs hardly move."""
    spent, computed = [], []
    for _ in range(times):
        began, worked = time.perf_counter(), time.process_time()
        work()
        computed.append((time.process_time() - worked) * 1000)
        spent.append((time.perf_counter() - began) * 1000)
    return {
        "median_ms": round(float(np.median(spent)), 3),
        "worst_ms": round(max(spent), 3),
        "processor_ms": round(float(np.median(computed)), 3),
    }


def writing(store: Store, count: int = 20_000) -> dict[str, float]:
    """The cost of recording: time of the thread that answers, and bytes on disk."""
    ids = Ids()

    def fresh(number: int) -> list[Record]:
        some = made_up(number, time.time())
        return [one._replace(id=new) for one, new in zip(some, ids.some(number), strict=True)]

    records = fresh(count)
    recorder = Recorder(store, most_waiting=count)
    began = time.perf_counter()
    for record in records:
        recorder.add([record])
    added = time.perf_counter()
    recorder.flush(600)
    written = time.perf_counter()
    required = fresh(200)

    def require() -> None:
        """Add a record, and wait until it is on disk."""
        promise = recorder.add_promised([required.pop()])
        if promise is None or not promise.wait(60):
            raise RuntimeError(f"expected a record on disk, got: {recorder.state.reason}")

    waits = timed(require, len(required))
    recorder.close(60)
    return {
        "add_us": round((added - began) / count * 1e6, 2),
        "records_per_second": round(count / (written - began)),
        "required_median_ms": waits["median_ms"],
        "required_worst_ms": waits["worst_ms"],
    }


def measure(url: str, file: Path | None, count: int, now: float) -> dict[str, Any]:
    """Fills the store, asks and writes."""
    began = time.perf_counter()
    fill(url, count, now)
    filled = time.perf_counter() - began
    store = Store(url)
    store.open()
    asked: dict[str, Any] = {}
    for name, (wanted, page) in questions(now).items():
        found, _ = store.page(wanted, page)
        asked[name] = {"found": len(found), **timed(partial(store.page, wanted, page))}
    newest = store.page(Filter(), RecordPage(1))[0][0]
    asked["one by its id"] = {"found": 1, **timed(partial(store.get, newest.id))}
    result = {
        "machine": processor(),
        "date": today(),
        "records": count,
        "bytes_per_record": None if file is None else round(file.stat().st_size / count),
        "fill_seconds": round(filled, 1),
        "questions": asked,
        "writing": writing(store),
    }
    store.close()
    return result


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    size = f", {result['bytes_per_record']:,} bytes each in the file" if result["bytes_per_record"] else ""
    lines = [
        f"{result['machine']}, {result['date']}, {result['records']:,} records{size}, "
        f"filled in {result['fill_seconds']:.0f} s",
        "",
        "| question | records | median | worst | processor time |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, one in result["questions"].items():
        slow = "" if one["median_ms"] < LIMIT_MS else f" (over {LIMIT_MS:.0f} ms)"
        lines.append(
            f"| {name} | {one['found']} | {one['median_ms']:.1f} ms{slow} | {one['worst_ms']:.1f} ms | "
            f"{one['processor_ms']:.1f} ms |"
        )
    writing = result["writing"]
    lines += [
        "",
        f"An answer waits {writing['add_us']:.1f} us for its record to be taken; {writing['records_per_second']:,} "
        f"records a second are written; `record=required` waits {writing['required_median_ms']:.1f} ms "
        f"(worst of 200: {writing['required_worst_ms']:.1f} ms).",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="The store of records, with a million of them in it.")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--url", help="an empty database, instead of a temporary SQLite file")
    parser.add_argument("--json", action="store_true", help="print JSON, nothing else")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = None if arguments.url else Path(folder) / "records.db"
        result = measure(arguments.url or f"sqlite:///{file}", file, arguments.records, time.time())
    print(json.dumps(result, indent=1) if arguments.json else table(result))


if __name__ == "__main__":
    main()
