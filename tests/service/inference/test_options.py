"""Options: what is accepted, what is refused and with which words."""

import math
from typing import Any

import pytest
from spikehead.errors import Problem
from spikehead.inference.options import (
    BATCH_OPTION_NAMES,
    DRAWN_SEED_BITS,
    Options,
    collect,
    model_name,
    on_error,
    parse,
)
from spikehead.inference.simulator import Simulator
from spikehead.model.card import Card


@pytest.fixture(scope="module")
def card(simulator: Simulator) -> Card:
    return simulator.card


def refused(
    kind: str, expected: str, received: str, query: list[tuple[str, str]], body: dict[str, Any], card: Card
) -> None:
    with pytest.raises(Problem) as caught:
        parse(collect(query, body), card)
    assert (caught.value.kind, caught.value.expected, caught.value.received) == (kind, expected, received)


def test_defaults_come_from_the_card(card: Card) -> None:
    options = parse(collect([], {}), card)
    assert options == Options(max_steps=4, confidence=0.9, seed=options.seed, encoder="bernoulli", raster=())
    assert 0 <= options.seed < 2**DRAWN_SEED_BITS


def test_seeds_are_drawn_anew(card: Card) -> None:
    assert len({parse({}, card).seed for _ in range(20)}) == 20


def test_all_options_as_text(card: Card) -> None:
    query = [
        ("max_steps", "3"),
        ("confidence", "0.25"),
        ("seed", "7"),
        ("encoder", "regular"),
        ("raster", "output,input"),
    ]
    assert parse(collect(query, {}), card) == Options(3, 0.25, 7, "regular", ("input", "output"))


def test_all_options_as_json(card: Card) -> None:
    body = {"max_steps": 3, "confidence": 1, "seed": 2**64 - 1, "encoder": "bernoulli", "raster": ["hidden"]}
    assert parse(collect([], body), card) == Options(3, 1.0, 2**64 - 1, "bernoulli", ("hidden",))


@pytest.mark.parametrize("value", ["all", "all,input", "input,hidden,output", " input , hidden,output,"])
def test_raster_of_all_layers(card: Card, value: str) -> None:
    assert parse({"raster": [value]}, card).raster == ("input", "hidden", "output")


def test_empty_raster_is_none(card: Card) -> None:
    assert parse({"raster": [""]}, card).raster == ()


@pytest.mark.parametrize(
    "value", ["-1", str(2**64), "1.5", "", "seven", "0x10", "1_000", "9" * 5000, "²", " 1"]
)
def test_wrong_seeds_as_text(card: Card, value: str) -> None:
    with pytest.raises(Problem) as caught:
        parse({"seed": [value]}, card)
    assert caught.value.kind == "invalid-option"
    assert caught.value.expected == "seed: a whole number from 0 to 2**64 - 1"


@pytest.mark.parametrize("value", [-1, 2**64, 1.5, None, True, [1], {"a": 1}, math.nan, math.inf, 1e300])
def test_wrong_seeds_as_json(card: Card, value: Any) -> None:
    with pytest.raises(Problem, match=r"seed: a whole number from 0 to 2\*\*64 - 1"):
        parse({"seed": [value]}, card)


def test_largest_seed_stays_exact(card: Card) -> None:
    assert parse({"seed": ["18446744073709551615"]}, card).seed == 2**64 - 1
    assert parse({"seed": [7.0]}, card).seed == 7


@pytest.mark.parametrize("value", ["0", "5", "10000", 0, 10000, -3, "one"])
def test_wrong_max_steps(card: Card, value: Any) -> None:
    refused(
        "invalid-option", "max_steps: a whole number from 1 to 4", repr(value), [], {"max_steps": value}, card
    )


@pytest.mark.parametrize(
    "value",
    [
        "1.01",
        "-0.1",
        "0",
        "0.0",
        "1e-400",
        0,
        0.0,
        "nan",
        "inf",
        "1e9999",
        "",
        "0,5",
        1.01,
        math.nan,
        math.inf,
        True,
        None,
    ],
)
def test_wrong_confidence(card: Card, value: Any) -> None:
    refused(
        "invalid-option",
        "confidence: a number above 0, at most 1",
        repr(value),
        [],
        {"confidence": value},
        card,
    )


@pytest.mark.parametrize(
    ("value", "number"), [("1e-9", 1e-9), ("1", 1.0), (".5", 0.5), ("5e-1", 0.5), (0.25, 0.25), (1, 1.0)]
)
def test_right_confidence(card: Card, value: Any, number: float) -> None:
    assert parse({"confidence": [value]}, card).confidence == number


def test_wrong_encoder(card: Card) -> None:
    refused(
        "invalid-option",
        "encoder: one of bernoulli, regular",
        "'poisson'",
        [("encoder", "poisson")],
        {},
        card,
    )


def test_unknown_layer(card: Card) -> None:
    expected = "raster: layers among all, input, hidden, output"
    refused("unknown-layer", expected, "'stem9'", [("raster", "input,stem9")], {}, card)


@pytest.mark.parametrize("value", [1, None, {"input": True}, [1, 2]])
def test_raster_that_is_no_list_of_names(card: Card, value: Any) -> None:
    refused(
        "invalid-option", "raster: layer names, separated by commas", repr(value), [], {"raster": value}, card
    )


def test_unknown_option(card: Card) -> None:
    allowed = "one of model, max_steps, confidence, seed, encoder, raster, record"
    refused("unknown-option", allowed, "'steps'", [("steps", "3")], {}, card)
    refused("unknown-option", allowed, "''", [], {"": 3}, card)


def test_empty_text_was_not_given(card: Card) -> None:
    """As a page's form sends it; in JSON it is a wrong value."""
    text = [("seed", ""), ("seed", "7"), ("confidence", ""), ("on_error", "")]
    assert collect(text, {}, BATCH_OPTION_NAMES) == {"seed": ["7"]}
    assert collect([], {"seed": ""}) == {"seed": [""]}


def test_what_a_bad_picture_leads_to() -> None:
    assert on_error({}) == "fail"
    assert on_error({"on_error": ["report", "report"]}) == "report"
    for values, expected in (
        (["fail", "report"], "one value of on_error"),
        (["skip"], "one of fail, report"),
        ([[]], "one of fail, report"),
    ):
        with pytest.raises(Problem, match=expected):
            on_error({"on_error": values})


def test_query_and_body_must_agree(card: Card) -> None:
    refused("conflicting-option", "one value of seed", "'7' and 8", [("seed", "7")], {"seed": 8}, card)
    assert (
        parse(
            collect(
                [("confidence", "0.50"), ("raster", "input,output")],
                {"confidence": 0.5, "raster": ["output", "input"]},
            ),
            card,
        ).confidence
        == 0.5
    )
    refused(
        "conflicting-option", "one value of seed", "'1' and '2'", [("seed", "1"), ("seed", "2")], {}, card
    )


def test_long_values_are_quoted_in_part(card: Card) -> None:
    with pytest.raises(Problem) as caught:
        parse({"encoder": ["x" * 1000]}, card)
    assert caught.value.received == "'" + "x" * 76 + "..."


def test_model_name() -> None:
    assert model_name({}, "tiny") == "tiny"
    assert model_name({"model": ["glm", "glm"]}, "tiny") == "glm"
    with pytest.raises(Problem, match="one value of model"):
        model_name({"model": ["glm", "tiny"]}, "tiny")
    with pytest.raises(Problem, match="model: a name"):
        model_name({"model": [7]}, "tiny")
