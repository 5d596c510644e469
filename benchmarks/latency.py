"""Latency of each phase of a request, over HTTP: `python -m benchmarks.latency` (or `make bench`).

Starts the service as a process of its own, sends it 28x28 PNG files of MNIST's validation set one after the
other, and prints medians: of the phases as each answer reports them, and of the whole request as the client
sees it. `/classify` also runs with all time steps, which is what one time step's cost follows from.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.machine import processor, today
from benchmarks.pictures import validation_images
from benchmarks.serving import spikehead

DRAWING = Path("examples/3.png")


def classify(connection: http.client.HTTPConnection, body: bytes, query: str) -> tuple[dict[str, Any], float]:
    """The answer to one PNG file, and the milliseconds that the client waited for it."""
    began = time.perf_counter()
    connection.request("POST", f"/classify?{query}", body, {"Content-Type": "image/png"})
    response = connection.getresponse()
    text = response.read()
    waited = (time.perf_counter() - began) * 1000
    if response.status != 200:
        raise RuntimeError(f"expected an answer, got {response.status}: {text[:500]!r}")
    answer: dict[str, Any] = json.loads(text)
    return answer, waited


def measure(count: int) -> dict[str, Any]:
    """Medians and 95th percentiles over `count` images, with and without the stopping rule side by side."""
    files = []
    for pixels in validation_images()[:count]:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        files.append(stream.getvalue())
    samples: dict[str, dict[str, list[float]]] = {"stopping rule": {}, "all steps": {}}
    queries = {"stopping rule": "seed=1", "all steps": "seed=1&confidence=1"}
    with spikehead() as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for file in files[:50]:
            classify(connection, file, "seed=1")  # warm-up
        for file in files:
            for name, query in queries.items():
                answer, waited = classify(connection, file, query)
                for phase, value in {**answer["timings_ms"], "request": waited}.items():
                    samples[name].setdefault(phase, []).append(value)
                samples[name].setdefault("steps", []).append(answer["steps_used"])
        drawing = DRAWING.read_bytes()
        drawn = [classify(connection, drawing, "seed=1")[0]["timings_ms"]["decode"] for _ in range(100)]
    return {
        "drawing_decode_ms": {"median": statistics.median(drawn), "p95": float(np.percentile(drawn, 95))},
        "machine": processor(),
        "date": today(),
        "engine": answer["engine"],
        "images": count,
        "milliseconds": {
            name: {
                phase: {"median": statistics.median(values), "p95": float(np.percentile(values, 95))}
                for phase, values in phases.items()
                if phase != "steps"
            }
            for name, phases in samples.items()
        },
        "steps": {name: statistics.mean(phases["steps"]) for name, phases in samples.items()},
    }


def table(result: dict[str, Any]) -> str:
    """The result as a Markdown table."""
    lines = [
        f"{result['machine']}, {result['date']}, engine {result['engine']}, {result['images']} images",
        "",
    ]
    names = list(result["milliseconds"])
    head = [f"{name} ({result['steps'][name]:.2f} steps)" for name in names]
    lines += ["| phase | " + " | ".join(head) + " |", "| --- |" + " --- |" * len(names)]
    for phase in result["milliseconds"][names[0]]:
        cells = [result["milliseconds"][name][phase] for name in names]
        row = [f"{cell['median']:.3f} ms (95 %: {cell['p95']:.3f})" for cell in cells]
        lines.append(f"| {phase} | " + " | ".join(row) + " |")
    drawn = result["drawing_decode_ms"]
    cell = f"{drawn['median']:.3f} ms (95 %: {drawn['p95']:.3f})"
    lines.append(f"| decode of a drawing, {DRAWING} | {cell} | the same |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Latency of each phase of a request.")
    parser.add_argument("--images", type=int, default=1000, help="images to send (default: 1000)")
    parser.add_argument("--json", action="store_true", help="print JSON, nothing else")
    arguments = parser.parse_args()
    result = measure(arguments.images)
    print(json.dumps(result, indent=1) if arguments.json else table(result))


if __name__ == "__main__":
    main()
