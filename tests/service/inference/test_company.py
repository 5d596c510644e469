"""Two processes on one database, over HTTP: what either has answered can be fetched and forgotten at once."""

from __future__ import annotations

import os

import pytest

from benchmarks.stress.forgetting import SERVER, Found, exercised, two_services, two_workers

pytestmark = pytest.mark.slow

COUNT = 40


def test_two_workers_share_a_file() -> None:
    with two_workers() as (ports, folder):
        assert exercised(ports, COUNT, folder) == Found(COUNT, 0, 0, 0, 0, 0, 0)


def test_two_services_share_a_server() -> None:
    server = os.environ.get(SERVER)
    if not server:
        pytest.skip(f"needs PostgreSQL: set {SERVER}")
    with two_services(server) as (ports, _):
        assert exercised(ports, COUNT) == Found(COUNT, 0, 0, 0, 0, 0, None)
