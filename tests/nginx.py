"""Debian's nginx in front of a service, for tests: under `/digits/` of a host of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.service.serving import connects, eventually, started

CONFIGURATION = """\
daemon off;
master_process off;
pid {folder}/pid;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location {location} {{ proxy_pass {target}; client_max_body_size 16m; }}
  }}
}}
"""
STRIPS = ("/digits/", "/")
LEAVES = ("/digits", "")
"""Words that tell nginx to strip the path from what it passes on, or to leave it: location, end of the target."""


def nginx() -> str | None:
    """The program, or None if it is not installed."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


@contextmanager
def proxying(program: str, folder: Path, service: str, how: tuple[str, str]) -> Iterator[str]:
    """The proxy in front of a service's address. Yields its own, without the path."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    location, end = how
    text = CONFIGURATION.format(folder=folder, port=port, location=location, target=service + end)
    (folder / "nginx.conf").write_text(text)
    command = [program, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    with started(command, stderr=subprocess.PIPE, text=True) as process:
        eventually(lambda: connects(port) or process.poll() is not None)
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        yield f"http://127.0.0.1:{port}"
