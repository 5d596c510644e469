"""Freed memory is kept: what a batch needs does not come from the system again and again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from tests.service.serving import LONG

PROGRAM = """
import resource, sys
from spikehead.server.memory import keep_freed_memory

kept = keep_freed_memory() if sys.argv[1] == "keep" else None

def use() -> None:
    parts = [b"x" * 200_000 for _ in range(20)]

use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    use()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 20 * 20 * 200_000 // os.sysconf("SC_PAGESIZE")  # that are used in all

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")


def faults(how: str, **environment: str) -> tuple[str, int]:
    """What `keep_freed_memory` said, and how many pages came from the system."""
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=LONG,
        check=True,
    )
    said, count = found.stdout.split()
    return said, int(count)


@glibc
def test_memory_is_used_again() -> None:
    said, count = faults("keep")
    assert said == "True" and count < PAGES / 20
    assert faults("leave")[1] > PAGES / 4


@glibc
@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_what_the_environment_says_counts(name: str) -> None:
    assert faults("keep", **{name: "131072"})[0] == "False"
