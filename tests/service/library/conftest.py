"""The tiny model, loaded here and served by a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import spikehead

from tests.service.serving import LONG, serving, until


@pytest.fixture(scope="package")
def network(models_folder: Path) -> spikehead.Network:
    return spikehead.load(models_folder / "tiny")


@pytest.fixture(scope="package")
def url(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    database = f"sqlite:///{tmp_path_factory.mktemp('library')}/records.db"
    with serving(models_folder, DATABASE_URL=database, API_KEYS="clé") as (port, _):
        until(port, "/health/ready")
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="package")
def client(url: str) -> Iterator[spikehead.Client]:
    with spikehead.Client(url, key="clé", timeout=LONG) as client:
        yield client
