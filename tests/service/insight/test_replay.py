"""Replay: a stored request gives the same run again, and says so where it does not."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from spikehead.engine import native
from spikehead.engine.base import Engine
from spikehead.errors import Problem
from spikehead.inference.models import Models
from spikehead.inference.options import Options
from spikehead.inference.simulator import Simulator
from spikehead.insight.replay import PARTS, parts_of, replay
from spikehead.records import Record

from tests.service.conftest import SHIPPED, band


def stored(simulator: Simulator, image: np.ndarray, options: Options) -> Record:
    """What the service would have stored of a classification."""
    answer = next(iter(simulator.answers(image[None], [options.seed], options, [0.1], ["0" * 24])))
    return Record(
        id="0" * 24,
        time=1e9,
        model=simulator.card.name,
        model_version=simulator.card.version,
        image=image.tobytes(),
        seed=options.seed,
        prediction=answer.prediction,
        confidence=answer.confidence,
        steps_used=answer.steps,
        stopped_by=answer.stopped_by,
        answer=answer.stored or answer.json,
    )


OPTIONS = Options(max_steps=4, confidence=0.9, seed=7)


def test_the_replay_is_what_was_recorded(simulator: Simulator) -> None:
    again = replay(stored(simulator, band(3), OPTIONS), Models({"tiny": simulator}, "tiny"))
    assert again.differences == []
    document = again.document(PARTS)
    assert document["replay"] == {"equal": True, "differences": []}
    steps = again.run.steps
    assert document["raster"]["hidden"] == {"shape": [10], "events": [[t, 3] for t in range(steps)]}
    # potential 8 - 4 = 4 for the digit, -4 for the others, in units of a quarter, less its own feedback
    assert document["potentials"][0] == [1.0 if digit == 3 else -1.0 for digit in range(10)]
    assert np.array(document["filtered"]).shape == (steps, 28, 28)
    assert document["filtered"][0][10][6] == 1.0  # the first spike of a lit pixel
    assert len(document["probabilities"]["spike"]) == len(document["probabilities"]["class"]) == steps
    assert "attention" not in document  # the tiny network has none
    assert "feedback" not in document  # its card has no kernel B


def test_only_what_was_asked_for(simulator: Simulator) -> None:
    again = replay(stored(simulator, band(3), OPTIONS), Models({"tiny": simulator}, "tiny"))
    assert set(again.document(["potentials"])) == {"replay", "contrast", "potentials"}


def test_arrays(simulator: Simulator) -> None:
    again = replay(stored(simulator, band(3), OPTIONS), Models({"tiny": simulator}, "tiny"))
    with np.load(io.BytesIO(again.arrays(PARTS))) as arrays:
        assert np.array_equal(arrays["pixels"], band(3))
        assert np.array_equal(arrays["raster.hidden"], again.run.spikes["hidden"])
        assert np.array_equal(arrays["probabilities.class"], again.run.class_probabilities)
        assert "attention" not in arrays


def test_what_differs_is_named(simulator: Simulator) -> None:
    record = stored(simulator, band(3), OPTIONS)
    answer = json.loads(record.answer)
    steps = answer["steps_used"]
    answer["steps_used"] = steps + 1
    answer["spike_counts"]["layers"]["hidden"] += 5
    changed = record._replace(answer=json.dumps(answer).encode())
    again = replay(changed, Models({"tiny": simulator}, "tiny"))
    hidden = answer["spike_counts"]["layers"]["hidden"]
    assert again.differences == [
        f"steps_used: {steps}, recorded {steps + 1}",
        f"spike_counts.layers: {{'hidden': {hidden - 5}}}, recorded {{'hidden': {hidden}}}",
    ]
    assert again.document([])["replay"]["equal"] is False


@pytest.mark.parametrize(
    ("named", "path"),
    [
        ("prediction", ("prediction",)),
        ("steps_used", ("steps_used",)),
        ("class_probabilities", ("class_probabilities", 0)),
        ("spike_counts.input", ("spike_counts", "input")),
        ("spike_counts.layers", ("spike_counts", "layers", "hidden")),
        ("spike_counts.output", ("spike_counts", "output", 9)),
    ],
)
def test_everything_recorded_is_compared(
    simulator: Simulator, named: str, path: tuple[str | int, ...]
) -> None:
    """A replay names the one value that was recorded otherwise, and nothing else."""
    record = stored(simulator, band(3), OPTIONS)
    answer = json.loads(record.answer)
    place = answer
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] += 1
    again = replay(record._replace(answer=json.dumps(answer).encode()), Models({"tiny": simulator}, "tiny"))
    assert [difference.partition(":")[0] for difference in again.differences] == [named]


def test_a_model_that_has_changed(simulator: Simulator) -> None:
    record = stored(simulator, band(3), OPTIONS)._replace(model_version="0.9.0")
    with pytest.raises(Problem) as raised:
        replay(record, Models({"tiny": simulator}, "tiny"))
    assert (raised.value.kind, raised.value.expected, raised.value.received) == (
        "model-changed", "tiny 0.9.0, as recorded", "version 1.2.3",
    )  # fmt: skip


def test_a_model_that_is_gone(simulator: Simulator) -> None:
    record = stored(simulator, band(3), OPTIONS)._replace(model="old")
    with pytest.raises(Problem) as raised:
        replay(record, Models({"tiny": simulator}, "tiny"))
    assert raised.value.kind == "unknown-model"


@pytest.mark.parametrize(
    ("include", "parts"),
    [
        ("", ()),
        ("all", PARTS),
        ("attention, potentials", ("potentials", "attention")),
        ("raster,all", PARTS),
    ],
)
def test_parts(include: str, parts: tuple[str, ...]) -> None:
    assert parts_of(include) == parts


def test_unknown_parts() -> None:
    with pytest.raises(Problem, match="include: parts among all, raster, filtered"):
        parts_of("raster,weights")


@pytest.mark.skipif(not native.available(), reason="the native engine was not built here")
@pytest.mark.parametrize("encoder", ["bernoulli", "regular"])
def test_the_shipped_model_is_replayed_alike_on_both_engines(shipped: Simulator, encoder: str) -> None:
    image = (np.arange(784).reshape(28, 28) % 200 * (band(4, 1) + band(5, 1))).astype(np.uint8)
    options = Options(max_steps=shipped.card.max_steps, confidence=1.0, seed=2**63 + 5, encoder=encoder)  # type: ignore[arg-type]
    engines: list[Engine] = [shipped.engine, native.NativeEngine(SHIPPED)]
    found = []
    for engine in engines:
        simulator = Simulator(engine)
        record = stored(simulator, image, options)
        again = replay(record, Models({shipped.card.name: simulator}, shipped.card.name))
        assert again.differences == []
        found.append(again.document(PARTS))
    assert found[0] == found[1]
    assert set(found[0]) == {"replay", "contrast", *PARTS}
    assert len(found[0]["attention"]) > 0
    for looked in found[0]["attention"].values():
        assert np.array(looked).shape[0] == shipped.card.max_steps
