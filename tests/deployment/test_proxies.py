"""haproxy and nginx in front of two services, as `deploy` configures them: a restart loses nothing."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from spikehead.settings import Settings

from benchmarks.stress.behind import Proxy, configured, installed, restart
from tests.deployment.files import DEPLOY

HAPROXY = (DEPLOY / "haproxy" / "haproxy.cfg").read_text()
NGINX = (DEPLOY / "nginx" / "nginx.conf").read_text()


def proxy_or_skip(name: str) -> Proxy:
    found = installed(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def number(text: str, pattern: str) -> int:
    found = re.search(pattern, text)
    assert found is not None, pattern
    return int(found[1])


def test_haproxy_notices_the_end_while_requests_are_still_taken() -> None:
    inter, fall = number(HAPROXY, r"inter (\d+)s"), number(HAPROXY, r"fall (\d+)")
    assert inter * fall + 0.5 < Settings().drain
    assert f"SPIKEHEAD_DRAIN seconds ({Settings().drain:g})" in HAPROXY


def test_proxies_keep_idle_connections_shorter_than_the_service() -> None:
    idle = number(HAPROXY, r"timeout http-keep-alive (\d+)s"), number(NGINX, r"keepalive_timeout (\d+)s")
    assert max(idle) < Settings().keep_alive
    assert f"SPIKEHEAD_KEEP_ALIVE ({Settings().keep_alive})" in NGINX


def test_nginx_lets_through_what_the_service_takes() -> None:
    assert number(NGINX, r"client_max_body_size (\d+)m") * 1024 * 1024 >= Settings().max_batch_body


@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_configurations_are_good(tmp_path: Path, name: str) -> None:
    proxy = proxy_or_skip(name)
    file = tmp_path / proxy.configuration.name
    file.write_text(configured(proxy.configuration.read_text(), 8080, (8001, 8002), tmp_path))
    check = "-c" if name == "haproxy" else "-t"
    found = subprocess.run([*proxy.command(file), check], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "warn" not in found.stderr.lower()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_a_restart_loses_no_request(name: str) -> None:
    """Each of the two services once; `python -m benchmarks.stress --only haproxy` does it 20 times."""
    restarts = restart(proxy_or_skip(name), 2)
    assert set(restarts.counts) == {200} and restarts.counts[200] > 50
    assert restarts.statuses == (0, 0)
