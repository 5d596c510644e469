"""A replay equals the raster that was answered, for a thousand test images on the shipped model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from spikehead.inference.simulator import Simulator
from spikehead.settings import Settings
from spikehead.web.app import create_app

COUNT, BLOCK = 1000, 50
RAW = {"Content-Type": "application/octet-stream"}


@pytest.mark.slow
def test_a_thousand_replays_equal_their_rasters(shipped: Simulator, tmp_path: Path) -> None:
    from training.data import mnist

    if not (mnist.data_folder() / "MNIST" / "raw" / "t10k-images-idx3-ubyte").is_file():
        pytest.skip("needs MNIST: set SPIKEHEAD_DATA to the folder that holds MNIST/raw")
    images = np.ascontiguousarray(mnist.load("test")[0][:COUNT])
    url = f"sqlite:///{tmp_path}/records.db"
    with TestClient(create_app(Settings(database_url=url, max_raster_images=BLOCK))) as client:
        for start in range(0, COUNT, BLOCK):
            answer = client.post(
                f"/classify/batch?raster=all&seed={start}",
                content=images[start : start + BLOCK].tobytes(),
                headers=RAW,
            )
            for result in answer.json()["results"]:
                again = client.get(f"/spikes/{result['id']}?include=raster").json()
                assert again["replay"] == {"equal": True, "differences": []}
                assert again["raster"] == result["raster"]
