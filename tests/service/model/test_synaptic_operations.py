"""Synaptic operations: counted by hand, by brute force, and exact where float32 would not be."""

from typing import Any

import numpy as np
import pytest
from spikehead.engine.base import Rule, Stimulus
from spikehead.inference.simulator import Simulator
from spikehead.model.card import Card
from spikehead.model.synaptic_operations import EXACT_LIMIT, SynapticOperations, coincidences

from tests.service.conftest import band, tiny_card


def card(*hidden: dict[str, Any]) -> Card:
    """The tiny model's card with other hidden layers."""
    document = tiny_card(b"")
    first, last = document["layers"][0], document["layers"][-1]
    return Card.model_validate({**document, "layers": [first, *hidden, last]})


def layer(name: str, shape: list[int], targets: int, **window: list[int]) -> dict[str, Any]:
    return {"name": name, "shape": shape, "fan_out": {"targets": targets, **window}}


# 3 tokens of 4 channels, 2 heads: a query spike meets the 2 columns of its head's K^T V.
ATTENTION = [
    layer("block1.query", [3, 4], 2),
    layer("block1.key", [3, 4], 0),
    layer("block1.value", [3, 4], 0),
]
NO_TRACES = np.zeros((1, 1, 28, 28), np.float32)


def attention_spikes(**set_neurons: list[tuple[int, int]]) -> dict[str, np.ndarray]:
    """{0, 1} [1, 3, 4] for each role, set at (token, channel)."""
    spikes = {f"block1.{role}": np.zeros((1, 3, 4), np.float32) for role in ("query", "key", "value")}
    for role, neurons in set_neurons.items():
        for token, channel in neurons:
            spikes[f"block1.{role}"][0, token, channel] = 1
    return spikes


def caused(card: Card, spikes: dict[str, np.ndarray], traces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accumulates and multiply-accumulates of one step."""
    operations = SynapticOperations(card)
    return operations.by_kind(operations.step(spikes, traces))


@pytest.mark.parametrize(
    ("spikes", "accumulates"),
    [
        (attention_spikes(), 0),
        (attention_spikes(query=[(0, 0), (2, 3)]), 4),  # 2 spikes, 2 targets each
        (attention_spikes(key=[(0, 0), (1, 2)]), 0),  # keys alone meet no values
        (attention_spikes(key=[(0, 0)], value=[(0, 1)]), 1),  # same token, same head
        (attention_spikes(key=[(0, 0)], value=[(1, 1)]), 0),  # another token
        (attention_spikes(key=[(0, 0)], value=[(0, 2)]), 0),  # another head
        (attention_spikes(key=[(0, 0), (0, 1)], value=[(0, 0), (0, 1)]), 4),  # each with each
        (attention_spikes(query=[(1, 1)], key=[(2, 2)], value=[(2, 2), (2, 3)]), 2 + 2),
    ],
)
def test_attention_by_hand(spikes: dict[str, np.ndarray], accumulates: int) -> None:
    found, products = caused(card(*ATTENTION), spikes, NO_TRACES)
    assert (found.tolist(), products.tolist()) == ([accumulates], [0])


def test_a_feature_map_drives_less_at_its_border() -> None:
    stem = card(layer("stem", [2, 2, 3], 5, rows=[1, 2], columns=[1, 2, 1]))
    spikes = np.zeros((2, 2, 2, 3), np.float32)
    spikes[0, 1, 0, 0] = 1  # 5 * 1 * 1
    spikes[0, 0, 1, 1] = 1  # 5 * 2 * 2
    spikes[1] = 1  # 2 channels * 5 * (1 + 2) * (1 + 2 + 1)
    found, _ = caused(stem, {"stem": spikes}, np.zeros((2, 1, 28, 28), np.float32))
    assert found.tolist() == [25, 120]


def test_a_trace_counts_once_whatever_its_height() -> None:
    traces = NO_TRACES.copy()
    traces[0, 0, 5, 5], traces[0, 0, 6, 6] = 1, 31
    _, products = caused(card(), {}, traces)
    assert products.tolist() == [2]


def test_in_a_conventional_network_every_operation_is_a_multiply_accumulate() -> None:
    """Two pixels that are not dark, three values that are not 0 with five targets each, and a fixed seven.

    Its queries are no spikes: there are no coincidences to count.
    """
    spiking = card(layer("hidden", [4], 5), layer("block1.query", [3, 4], 2))
    conventional = Card.model_validate(
        {**spiking.model_dump(), "kind": "ann", "fixed_multiply_accumulates": 7}
    )
    intensities = np.zeros((2, 1, 28, 28), np.float32)
    intensities[0, 0, 5, 5], intensities[0, 0, 6, 6] = 0.25, 1.0
    values = {"hidden": np.zeros((2, 4), np.float32), "block1.query": np.zeros((2, 3, 4), np.float32)}
    values["hidden"][0, :3] = 1
    found, products = caused(conventional, values, intensities)
    assert found.tolist() == [0, 0]
    assert products.tolist() == [2 + 3 * 5 + 7, 7]


def test_coincidences_by_brute_force() -> None:
    random = np.random.default_rng(3)
    key, value = (random.integers(0, 2, (5, 7, 12)).astype(np.float32) for _ in range(2))
    for heads in (1, 2, 3, 6, 12):
        k, v = (x.reshape(5, 7, heads, 12 // heads).astype(int) for x in (key, value))
        expected = np.einsum("nlhi,nlhj->n", k, v)
        assert coincidences(key, value, heads).tolist() == expected.tolist()


def test_exact_beyond_float32() -> None:
    wide = card(layer("wide", [4096], 4099))
    spikes = np.ones((1, 4096), np.float32)
    spikes[0, 17] = 0
    expected = 4095 * 4099
    assert expected > EXACT_LIMIT and int(np.float32(expected)) != expected
    found, _ = caused(wide, {"wide": spikes}, NO_TRACES)
    assert found.tolist() == [expected]


def test_shipped_model_by_brute_force(shipped: Simulator) -> None:
    """Each layer's own, and all of them together."""
    stimulus = Stimulus(band(2)[None], [5])
    (outcome,) = shipped.engine.classify(stimulus, Rule(3, 1.0), shipped.card.layer_names)
    expected = []
    for one in shipped.card.layers[1:-1]:
        fan_out, spikes = one.fan_out, outcome.recorded[one.name].astype(int)  # [T, ...]
        if fan_out.rows is None or fan_out.columns is None:
            expected.append(int(spikes.sum()) * fan_out.targets)
        else:
            places = np.argwhere(spikes).tolist()
            expected.append(
                sum(fan_out.targets * fan_out.rows[y] * fan_out.columns[x] for _, _, y, x in places)
            )
        if one.name.endswith(".key"):
            query = shipped.card.layer(one.name.replace(".key", ".query"))
            value = outcome.recorded[one.name.replace(".key", ".value")].astype(int)
            width = query.fan_out.targets
            shape = (*spikes.shape[:2], -1, width)
            expected[-1] += int(np.einsum("tlhi,tlhj->", spikes.reshape(shape), value.reshape(shape)))
    assert outcome.work.operations.tolist() == [outcome.multiply_accumulates, *expected, 0]
    assert outcome.accumulates == sum(expected) > 0
    assert outcome.work.spikes.tolist() == [outcome.counts[name] for name in shipped.card.layer_names]
