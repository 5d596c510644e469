"""Fixtures that tests of the service share with tests that span both packages."""

import sys
from collections.abc import Iterator

import pytest
from spikehead.telemetry import logs

from tests.service.conftest import models_folder, shipped

__all__ = ["models_folder", "shipped"]


@pytest.fixture(scope="session", autouse=True)
def logging_as_in_a_service() -> Iterator[None]:
    """As a service does it, on one line, but at once: so that pytest knows in which test."""
    logs.configure("info", "json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs.LINES, "put", lambda render, *about: sys.stderr.write(render(*about)))
        yield


@pytest.fixture(scope="session", autouse=True)
def records_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A service with default settings leaves no records in the working directory."""
    folder = tmp_path_factory.mktemp("default-records")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPIKEHEAD_DATABASE_URL", f"sqlite:///{folder}/records.db")
        yield
