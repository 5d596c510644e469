"""New versions of models: taken once they are whole, refused where they are not, and no request fails meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from spikehead.inference.models import load_models
from spikehead.settings import Settings
from spikehead.web.app import create_app
from spikehead.web.reload import Reloader
from spikehead.web.service import Service

from tests.service.conftest import band, write_model
from tests.service.serving import eventually

RAW = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    write_model(folder)
    write_model(folder, "other")
    return folder


@pytest.fixture
def client(models: Path, tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(
        database_url=f"sqlite:///{tmp_path}/records.db",
        models=models,
        default_model="tiny",
        reload_seconds=0.05,
    )
    with TestClient(create_app(settings)) as client:
        yield client


def change_card(folder: Path, **values: Any) -> None:
    path = folder / "card.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps(card | values))


def versions(client: TestClient) -> dict[str, str]:
    return {one["name"]: one["version"] for one in client.get("/health/ready").json()["models"]}


def metric(client: TestClient, sample: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(sample + " ")), 0.0)


def test_a_new_version_answers(client: TestClient, models: Path) -> None:
    change_card(models / "tiny", version="2.0.0")
    eventually(lambda: versions(client) == {"tiny": "2.0.0", "other": "1.2.3"})
    answer = client.post("/classify", content=band(4).tobytes(), headers=RAW).json()
    assert (answer["model_version"], answer["prediction"]) == ("2.0.0", 4)
    assert metric(client, 'spikehead_reloads_total{result="switched"}') == 1.0
    assert metric(client, 'spikehead_model_info{engine="onnxruntime",name="tiny",version="2.0.0"}') == 1.0
    assert metric(client, 'spikehead_model_info{engine="onnxruntime",name="tiny",version="1.2.3"}') == 0.0


def test_only_what_has_changed_is_loaded(client: TestClient, models: Path) -> None:
    service = client.app.state.service  # type: ignore[attr-defined]
    before = {simulator.card.name: simulator for simulator in service.models}
    change_card(models / "tiny", version="2.0.0")
    eventually(lambda: versions(client)["tiny"] == "2.0.0")
    after = {simulator.card.name: simulator for simulator in service.models}
    assert after["other"] is before["other"] and after["tiny"] is not before["tiny"]


def test_models_come_and_go(client: TestClient, models: Path) -> None:
    write_model(models, "third")
    shutil.rmtree(models / "other")
    eventually(lambda: versions(client) == {"tiny": "1.2.3", "third": "1.2.3"})


@pytest.mark.parametrize("fault", ["graph", "card", "default", "folder"])
def test_a_bad_one_is_refused_and_the_old_ones_stay(client: TestClient, models: Path, fault: str) -> None:
    if fault == "graph":
        (models / "tiny" / "model.onnx").write_bytes(b"no graph")
    elif fault == "card":
        (models / "tiny" / "card.json").write_text("{")
    elif fault == "default":
        shutil.rmtree(models / "tiny")
    else:
        models.rename(models.with_name("away"))
    eventually(lambda: bool(client.get("/health/ready").json()["refused_models"]))
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert ready.json()["refused_models"].startswith("expected ")
    assert client.post("/classify", content=band(4).tobytes(), headers=RAW).json()["model_version"] == "1.2.3"
    assert metric(client, 'spikehead_reloads_total{result="refused"}') == 1.0  # once, not again and again
    assert metric(client, "spikehead_models_refused") == 1.0
    if fault == "folder":
        models.with_name("away").rename(models)
    else:
        shutil.rmtree(models / "tiny", ignore_errors=True)
        write_model(models)
    eventually(lambda: client.get("/health/ready").json()["status"] == "ready")
    assert metric(client, "spikehead_models_refused") == 0.0


def test_no_request_fails_meanwhile(client: TestClient, models: Path) -> None:
    """Requests of three threads, while the version changes ten times."""
    done, failures, seen = threading.Event(), [], set()

    def go_on() -> None:
        while not done.is_set():
            response = client.post("/classify?record=no", content=band(4).tobytes(), headers=RAW)
            if response.status_code == 200 and response.json()["prediction"] == 4:
                seen.add(response.json()["model_version"])
            else:
                failures.append(response.text)

    threads = [threading.Thread(target=go_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(10):
            wanted = f"3.{number}.0"
            change_card(models / "tiny", version=wanted)
            eventually(lambda wanted=wanted: wanted in seen)  # type: ignore[misc]
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures


def test_what_models_have_done_is_counted_through_a_switch(client: TestClient, models: Path) -> None:
    for number in range(3):
        client.post("/classify", content=band(4).tobytes(), headers=RAW)
        change_card(models / "tiny", version=f"4.{number}.0")
        eventually(lambda number=number: versions(client)["tiny"] == f"4.{number}.0")  # type: ignore[misc]
    assert metric(client, 'spikehead_images_total{model="tiny"}') == 3.0


def test_a_folder_whose_name_is_no_text_is_told_of_in_text(client: TestClient, models: Path) -> None:
    folder = models / os.fsdecode(b"bad\xff")
    folder.mkdir()
    (folder / "card.json").write_text("{")
    eventually(lambda: bool(client.get("/health/ready").json()["refused_models"]))
    assert "\\udcff" in client.get("/health/ready").json()["refused_models"]


def test_a_card_that_is_no_file_is_passed_over(client: TestClient, models: Path) -> None:
    """Reading it would never end, and nothing would be reloaded any more."""
    (models / "pipe").mkdir()
    os.mkfifo(models / "pipe" / "card.json")
    write_model(models, "third")
    eventually(lambda: "third" in versions(client))
    (models / "pipe" / "model.onnx").write_bytes(b"now it is a model's folder")
    eventually(lambda: "not a file" in (client.get("/health/ready").json()["refused_models"] or ""))
    shutil.rmtree(models / "pipe")
    write_model(models, "fourth")
    eventually(lambda: "fourth" in versions(client))


def test_whatever_goes_wrong_it_goes_on(
    client: TestClient, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*arguments: object) -> None:
        raise MemoryError("not now")

    with monkeypatch.context() as context:
        context.setattr("spikehead.web.reload.load_models", load)
        write_model(models, "third")
        eventually(lambda: client.get("/health/ready").json()["refused_models"] == "not now")
    write_model(models, "fourth")
    eventually(lambda: "fourth" in versions(client))


# ------------------------------------------------------------------------------------ rest, step by step


class OverError(Exception):
    """There is nothing more to look at."""


class Stepped(Reloader):
    """Time passes only as the test says: before each look at the folder it does the next step.

    A step may write to the folder; it returns whether the reloader was told to look.
    """

    def __init__(self, service: Service, steps: list[Callable[[], bool]]) -> None:
        super().__init__(service)
        self._steps = iter(steps)
        self.versions: list[str] = []  # of the model when each look is over

    async def _pause(self, seconds: float) -> bool:
        self.versions.append(self._service.models.get("tiny").card.version)
        for step in self._steps:
            return step()
        raise OverError


def versions_after(models: Path, tmp_path: Path, *steps: Callable[[], bool]) -> list[str]:
    """List the versions that answer after each step."""
    settings = Settings(database_url=f"sqlite:///{tmp_path}/records.db", models=models, default_model="tiny")
    service = Service(settings)
    service.start(load_models(settings))

    async def run() -> list[str]:
        reloader = Stepped(service, list(steps))
        with pytest.raises(OverError):
            await reloader.run()
        return reloader.versions[1:]

    try:
        return asyncio.run(run())
    finally:
        service.stop()


def test_a_folder_that_still_changes_is_left_alone(models: Path, tmp_path: Path) -> None:
    """A new version is loaded at the first look that finds the folder as the look before it did."""

    def write(version: str) -> bool:
        change_card(models / "tiny", version=version)  # each is longer than the one before: another size
        return False

    found = versions_after(
        models,
        tmp_path,
        lambda: False,
        lambda: write("2.0.0-first"),
        lambda: write("2.0.0-second"),
        lambda: write("2.0.0-and-third"),
        lambda: False,
        lambda: False,
        lambda: write("2.0.0-after-them-all"),
        lambda: False,
    )
    assert found == [*["1.2.3"] * 4, *["2.0.0-and-third"] * 3, "2.0.0-after-them-all"]


def test_who_tells_it_to_look_does_not_wait_for_rest(models: Path, tmp_path: Path) -> None:
    def write(version: str) -> bool:
        change_card(models / "tiny", version=version)
        return True

    found = versions_after(
        models, tmp_path, lambda: write("2.0.0-first"), lambda: write("2.0.0-second"), lambda: False
    )
    assert found == ["2.0.0-first", "2.0.0-second", "2.0.0-second"]
