"""kill -9 loses no record whose commit was waited for."""

import subprocess
import sys

ROUNDS = 20


def test_nothing_is_lost_that_was_acknowledged(url: str) -> None:
    command = [sys.executable, "-m", "tests.service.records.processes", "kill", url, str(ROUNDS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert (done.returncode, done.stderr) == (0, "")
    rounds, acknowledged = map(int, done.stdout.split())
    assert rounds == ROUNDS and acknowledged >= 5 * (1 + 2 + 3 + 4)
