"""The service over HTTP, beside the least services that there can be: `python -m benchmarks.load`.

    latency      one client, 28x28 PNG files one after the other: median and 95th percentile
    throughput   16 clients at once: requests a second
    batches      1,000 images a request, two requests at a time, against the engine called on both cores; with a
                 record of each image, and without

Clients and servers share the machine. All servers run at the same time and take turns. The service logs at its default
level, a line a request, into a file; the others log nothing.

`--against CHECKOUT` measures the throughput alone, and that of the service in another checkout as well: short rounds in
turn, and the median of their ratios, which holds on a busy machine too. Set both up (`make setup`) before.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import http.client
import io
import json
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from spikehead.engine.base import Rule, Stimulus
from spikehead.engine.loading import load_engine
from spikehead.settings import load_settings

from benchmarks.machine import processor, today
from benchmarks.pictures import validation_images
from benchmarks.serving import litserve, spikehead, uvicorn

CLIENTS = 16
BATCH = 1000
LITSERVE = "LeNet-5 under LitServe"
THIS, OTHER = "this checkout", "the other one"
QUARTILES = {"lower": 25, "median": 50, "upper": 75}


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def body_for(name: str, file: bytes) -> tuple[str, bytes]:
    """Content type and body that a server takes a PNG in."""
    if name == LITSERVE:
        return "application/json", json.dumps({"image": base64.b64encode(file).decode()}).encode()
    return "image/png", file


def latency(ports: dict[str, int], files: list[bytes]) -> dict[str, dict[str, float]]:
    """Milliseconds of one client, servers in turn."""
    connections = {
        name: http.client.HTTPConnection("127.0.0.1", port, timeout=10) for name, port in ports.items()
    }
    samples: dict[str, list[float]] = {name: [] for name in ports}
    for number, file in enumerate(files):
        for name, connection in connections.items():
            content_type, body = body_for(name, file)
            began = time.perf_counter()
            connection.request("POST", "/classify", body, {"Content-Type": content_type})
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise RuntimeError(f"expected 200 from {name}, got {response.status}")
            if number >= 50:
                samples[name].append((time.perf_counter() - began) * 1000)
    for connection in connections.values():
        connection.close()
    return {
        name: {"median_ms": statistics.median(values), "p95_ms": float(np.percentile(values, 95))}
        for name, values in samples.items()
    }


async def _client(port: int, requests: list[bytes], until: float) -> int:
    """Sends requests over one connection until a time; how many were answered with 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    done = 0
    while time.monotonic() < until:
        writer.write(requests[done % len(requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"expected 200, got {head[:40]!r}")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        done += 1
    writer.close()
    return done


def throughput(name: str, port: int, files: list[bytes], seconds: float) -> float:
    """Requests a second of 16 clients."""
    requests = [
        b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
        % (content_type.encode(), len(body), body)
        for content_type, body in (body_for(name, file) for file in files)
    ]

    async def run() -> float:
        began = time.monotonic()
        counts = await asyncio.gather(*(_client(port, requests, began + seconds) for _ in range(CLIENTS)))
        return sum(counts) / (time.monotonic() - began)

    return asyncio.run(run())


def batches(port: int, images: np.ndarray, count: int, record: str) -> float:
    """Images a second through `/classify/batch`, two requests at a time."""
    body = images.tobytes()

    def post(_: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request(
            "POST", f"/classify/batch?record={record}", body, {"Content-Type": "application/octet-stream"}
        )
        response = connection.getresponse()
        response.read()
        connection.close()
        if response.status != 200:
            raise RuntimeError(f"expected 200, got {response.status}")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(post, range(2)))
        began = time.perf_counter()
        list(pool.map(post, range(count)))
        return count * len(images) / (time.perf_counter() - began)


def settle(port: int) -> None:
    """Waits until the service has written its records: else it would still do so beside what is measured next."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/health/ready")
        waiting = json.loads(connection.getresponse().read())["records"]["waiting"]
        connection.close()
        if not waiting:
            return
        time.sleep(0.05)


def direct(images: np.ndarray, count: int) -> float:
    """Images a second of the engine itself on two threads."""
    settings = load_settings()
    engine = load_engine(settings.models / settings.default_model, *settings.simulation)
    rule = Rule(engine.card.max_steps, engine.card.calibration.confidence)
    half = [images[::2], images[1::2]]

    def run(part: np.ndarray) -> None:
        for _ in range(count):
            engine.classify(Stimulus(part, range(len(part))), rule)

    threads = [threading.Thread(target=run, args=(part,)) for part in half]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count * len(images) / (time.perf_counter() - began)


def measure(images: int, seconds: float) -> dict[str, Any]:
    """Everything, with all servers up."""
    pictures = validation_images()
    files = [png(pixels) for pixels in pictures[: images + 50]]
    block = np.ascontiguousarray(pictures[:BATCH])
    with ExitStack() as stack:
        ports = {
            "bare FastAPI route": stack.enter_context(uvicorn("constant")),
            "LeNet-5 by hand": stack.enter_context(uvicorn("lenet")),
            "spikehead": stack.enter_context(spikehead()),
        }
        if find_spec("litserve"):
            ports[LITSERVE] = stack.enter_context(litserve())
        single = latency(ports, files)
        rounds: dict[str, list[float]] = {name: [] for name in ports}
        for _ in range(3):
            for name, port in ports.items():
                rounds[name].append(throughput(name, port, files[:200], seconds))
        through: dict[str, list[float]] = {
            name: [] for name in ("engine on both cores", "/classify/batch", "/classify/batch?record=no")
        }
        for _ in range(3):
            through["engine on both cores"].append(direct(block, 5))
            through["/classify/batch"].append(batches(ports["spikehead"], block, 10, "yes"))
            settle(ports["spikehead"])
            through["/classify/batch?record=no"].append(batches(ports["spikehead"], block, 10, "no"))
    return {
        "machine": processor(),
        "date": today(),
        "log_level": load_settings().log_level,
        "latency": single,
        "requests_a_second": {name: statistics.median(values) for name, values in rounds.items()},
        "images_a_second": {name: statistics.median(values) for name, values in through.items()},
    }


def against(checkout: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Requests a second of the service in another checkout and in this one, with the same settings."""
    files = [png(pixels) for pixels in validation_images()[:200]]
    names = (OTHER, THIS)
    measured: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        ports = {
            name: stack.enter_context(spikehead(folder))
            for name, folder in zip(names, (checkout, None), strict=True)
        }
        for number in range(rounds + 1):
            for name in names if number % 2 else names[::-1]:
                rate = throughput(name, ports[name], files, seconds)
                if number:  # the first round warms up
                    measured[name].append(rate)
    ratios = [this / other for this, other in zip(measured[THIS], measured[OTHER], strict=True)]
    return {
        "machine": processor(),
        "date": today(),
        "log_level": load_settings().log_level,
        "log_format": load_settings().log_format,
        "rounds": rounds,
        "requests_a_second": {name: statistics.median(values) for name, values in measured.items()},
        "ratio": {name: float(np.percentile(ratios, at)) for name, at in QUARTILES.items()},
    }


def compared(result: dict[str, Any]) -> str:
    """Some lines of text."""
    rates, ratio = result["requests_a_second"], result["ratio"]
    return "\n".join(
        [
            f"{result['machine']}, {result['date']}, log level {result['log_level']} ({result['log_format']})",
            f"{OTHER}: {rates[OTHER]:,.0f} requests a second; {THIS}: {rates[THIS]:,.0f}",
            f"ratio, median of {result['rounds']} rounds: {ratio['median']:.3f} "
            f"(half of them: {ratio['lower']:.3f} to {ratio['upper']:.3f})",
        ]
    )


def table(result: dict[str, Any]) -> str:
    """Markdown, with ratios to the first of each group."""
    lines = [
        f"{result['machine']}, {result['date']}, the service's log level: {result['log_level']}",
        "",
        "| what | who | figure | ratio |",
        "| --- | --- | --- | --- |",
    ]
    first = next(iter(result["latency"].values()))["median_ms"]
    for name, figures in result["latency"].items():
        cell = f"{figures['median_ms']:.3f} ms (95 %: {figures['p95_ms']:.3f})"
        lines.append(f"| one client, median | {name} | {cell} | {figures['median_ms'] / first:.2f} |")
    for key, what, unit in (
        ("requests_a_second", f"{CLIENTS} clients", "requests a second"),
        ("images_a_second", "batches of 1,000", "images a second"),
    ):
        first = next(iter(result[key].values()))
        for name, value in result[key].items():
            lines.append(f"| {what} | {name} | {value:,.0f} {unit} | {value / first:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="The service over HTTP, beside the least there can be.")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=3.0, help="of load, for each service and round")
    parser.add_argument("--json", action="store_true", help="print JSON, nothing else")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare with the service there")
    parser.add_argument("--rounds", type=int, default=30, help="of each, with --against")
    arguments = parser.parse_args()
    if arguments.against is not None:
        result = against(arguments.against, arguments.rounds, arguments.seconds)
        print(json.dumps(result, indent=1) if arguments.json else compared(result))
        return
    result = measure(arguments.images, arguments.seconds)
    Path("benchmarks/results-http.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1) if arguments.json else table(result))


if __name__ == "__main__":
    main()
