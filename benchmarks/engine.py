"""The engine against others, one image on one thread: `python -m benchmarks.engine`.

Contenders take turns, ten runs each, so that whatever else the machine does hits all of them alike and each finds
its weights in the caches, as a busy service does. Figures are medians with the quartiles; what counts are the ratios.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from spikehead.engine import native
from spikehead.engine.base import Rule, Stimulus
from spikehead.engine.onnxruntime import OnnxruntimeEngine
from spikehead.model.encoding import encode
from spikehead.model.retina import contrast

from benchmarks import contenders
from benchmarks.machine import processor, today
from benchmarks.pictures import validation_images
from training.fit.train import TrainingSettings

RESULTS = Path("benchmarks/results.json")
WARM_UP = 2  # turns
TURN = 10  # runs


def quartiles(samples: list[float]) -> dict[str, float]:
    """Median and quartiles, in microseconds."""
    low, middle, high = np.percentile(samples, [25, 50, 75]) * 1e6
    return {"median_us": round(middle, 2), "low_us": round(low, 2), "high_us": round(high, 2)}


def race(runs: dict[str, Callable[[int], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Each contender `rounds` times, a turn of ten runs after the other; a run gets its number."""
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds // TURN + WARM_UP):
        for name, run in runs.items():
            for number in range(turn * TURN, (turn + 1) * TURN):
                began = time.perf_counter()
                run(number)
                elapsed = time.perf_counter() - began
                if turn >= WARM_UP:
                    samples[name].append(elapsed)
    return {name: quartiles(values) for name, values in samples.items()}


def measure(model: Path, rounds: int) -> dict[str, Any]:
    """One time step against the same graph, and one image against other networks."""
    torch.set_num_threads(1)
    images = validation_images(model)[:500]
    engine, dense = native.NativeEngine(model), OnnxruntimeEngine(model)
    card = engine.card
    config = TrainingSettings.from_dict(card.training["settings"]).network
    rule = Rule(card.max_steps, card.calibration.confidence)
    seen = contrast(images)
    spikes, uniforms = encode(seen, range(len(images)), 1, slope=card.rate_slope)
    trains = np.ascontiguousarray(spikes.reshape(1, len(images), -1), np.uint8)
    scale = engine._scale
    state = dense.initial_state(1)
    count = len(images)

    def native_step(number: int) -> None:
        i = number % count
        engine._engine.run(trains[:, i : i + 1], uniforms[:, i : i + 1], 1, 1.0, scale)

    def onnx_step(number: int) -> None:
        i = number % count
        dense.step(state, spikes[0, i : i + 1], uniforms[0, i : i + 1])

    def whole_image(number: int) -> None:
        i = number % count
        engine.classify(Stimulus(images[i : i + 1], [i]), rule)

    step = race({"native": native_step, "onnxruntime": onnx_step}, rounds)
    standard = {
        "LeNet-5": contenders.dense(contenders.lenet5(), images[0]),
        "PyTorch's MNIST example": contenders.dense(contenders.mnist_cnn(), images[0]),
        "ANN twin": contenders.dense(contenders.ann_twin(config), images[0]),
        **contenders.spiking_libraries(config, card.max_steps),
    }

    def in_turn(run: contenders.Run) -> Callable[[int], Any]:
        return lambda number: run()

    def all_steps(number: int) -> None:
        i = number % count
        engine.classify(Stimulus(images[i : i + 1], [i]), Rule(card.max_steps, 2.0))

    runs: dict[str, Callable[[int], Any]] = {"spikehead": whole_image, "spikehead, all steps": all_steps}
    image = race(runs | {name: in_turn(run) for name, run in standard.items()}, rounds)
    used = [outcome.steps for outcome in engine.classify(Stimulus(images, range(count)), rule)]
    return {
        "machine": processor(),
        "date": today(),
        "model": f"{card.name} {card.version}",
        "instruction_set": engine.simd,
        "rounds": rounds,
        "average_steps": float(np.mean(used)),
        "time_step": step,
        "image": image,
    }


def table(result: dict[str, Any]) -> str:
    """Markdown: medians, quartiles, and how many times as long as spikehead each takes."""
    lines = [
        f"{result['machine']}, {result['date']}, {result['model']} on {result['instruction_set']}, "
        f"{result['rounds']} rounds, {result['average_steps']:.3f} steps on average",
        "",
        "| what | median | quartiles | ratio |",
        "| --- | --- | --- | --- |",
    ]
    for title, part in (("one time step", result["time_step"]), ("one image", result["image"])):
        reference = next(iter(part.values()))["median_us"]
        for name, figures in part.items():
            lines.append(
                f"| {title}: {name} | {figures['median_us']:.1f} us | {figures['low_us']:.1f} to "
                f"{figures['high_us']:.1f} us | {figures['median_us'] / reference:.1f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="The engine against others, one image on one thread.")
    parser.add_argument("--model", type=Path, default=Path("models/spiking-mha"))
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--json", action="store_true", help="print JSON, nothing else")
    arguments = parser.parse_args()
    result = measure(arguments.model, arguments.rounds)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1) if arguments.json else table(result))


if __name__ == "__main__":
    main()
