"""Contenders, and the budget that all of them get."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from training.comparison.contenders import CONTENDERS, Budget, contender_of
from training.comparison.measure import SHIP_TOO
from training.data import mnist
from training.network.spiking import NetworkConfig


def test_every_contender_is_either_spiking_or_conventional() -> None:
    assert [contender.name for contender in CONTENDERS] == [
        "spiking-mha", "no-attention", "glm", "ann-twin", "lenet5", "mnist-cnn"
    ]  # fmt: skip
    assert all((contender.network is None) != (contender.ann is None) for contender in CONTENDERS)
    assert set(SHIP_TOO) <= {contender.name for contender in CONTENDERS}
    networks = {contender.name: contender.network for contender in CONTENDERS}
    assert networks["spiking-mha"] == NetworkConfig()
    assert networks["no-attention"] == NetworkConfig(attention=False)


def test_the_budget_is_the_same_for_spiking_and_conventional_networks() -> None:
    budget = Budget(epochs=100, teacher=Path("teacher.pt"), limit=7, batch_size=256, elastic=0.75, seed=3)
    spiking, conventional = budget.spiking(NetworkConfig(), "tf32"), budget.conventional("tf32")
    for name in (
        "epochs",
        "teacher",
        "limit",
        "batch_size",
        "seed",
        "precision",
        "variation",
        "final_variation",
    ):
        assert getattr(spiking, name) == getattr(conventional, name), name
    assert spiking.integer_epochs == conventional.final_epochs == 20
    assert [Budget(epochs=n).final_epochs for n in (2, 8, 9, 80, 200)] == [1, 2, 2, 20, 20]
    assert spiking.variation == mnist.Variation(elastic_pixels=0.75)
    assert budget == Budget.of(spiking.as_dict()) == Budget.of(asdict(conventional))
    assert budget.command == (
        "python -m training compare --retrain --epochs 100 --batch-size 256 --elastic 0.75 --teacher teacher.pt"
    )


def test_contenders_have_names() -> None:
    assert contender_of("lenet5").title == "LeNet-5"
    with pytest.raises(ValueError, match=r"expected a contender among spiking-mha, .*, got 'resnet'"):
        contender_of("resnet")
