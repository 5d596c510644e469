"""Drift, by really sending pictures: clean test images raise no flag, inverted or noisy ones do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from spikehead.settings import Settings
from spikehead.web.app import create_app

from training.data import mnist

RAW = {"Content-Type": "application/octet-stream"}
COUNT = 100

Change = Callable[[np.ndarray], np.ndarray]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(database_url=f"sqlite:///{tmp_path}/records.db"))) as client:
        yield client


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    if not (mnist.data_folder() / "MNIST" / "raw" / "t10k-images-idx3-ubyte").is_file():
        pytest.skip("needs MNIST: set SPIKEHEAD_DATA to the folder that holds MNIST/raw")
    return mnist.load("test")[0][:COUNT]


def noisy(images: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 80, images.shape)
    return np.clip(images + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("change", "query", "drifts"),
    [
        (lambda images: images, "", False),
        (lambda images: images, "&confidence=1", False),  # all steps of clean pictures have other rates
        (lambda images: 255 - images, "", True),
        (noisy, "", True),
        (lambda images: images[:, ::-1], "", True),  # upside down: the network is unsure
    ],
    ids=["clean", "clean, all steps", "inverted", "noisy", "upside down"],
)
def test_drift(client: TestClient, images: np.ndarray, change: Change, query: str, drifts: bool) -> None:
    body = change(images).tobytes()
    assert client.post(f"/classify/batch?seed=1{query}", content=body, headers=RAW).status_code == 200
    found = client.get("/spikes/statistics?replays=0").json()
    assert found["requests"] == COUNT
    assert found["drift"] is drifts, found["drift_reasons"]
