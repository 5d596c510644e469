"""SIGTERM under load, 20 times, each time to a fresh service.

16 clients send drawings as fast as they are answered, half of the requests on connections that stay, half on a
new connection each. After about a second the main process gets SIGTERM; when the listening socket goes is read
from /proc/net/tcp every 2 ms. The clients go on until they are refused and nothing is under way any more.

A request is *admitted*, and must be answered completely with 200 or 429, if its last byte was sent

    before the listening socket was gone (the last time that it was seen).

It is *refused*, which is right, if no byte of an answer came and

    there was no connection to be had, or
    its last byte was sent after the listening socket was gone, or not at all.

An answer that is not complete, or another status than 200 and 429, is a failure, whenever the request was sent.
"""

from __future__ import annotations

import math
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from spikehead.settings import Settings

from benchmarks import serving
from benchmarks.stress.client import (
    FAILURES,
    REFUSED,
    UNANSWERED,
    Tally,
    closed_loop,
    helpers,
    sleep_until,
    soon,
)
from benchmarks.stress.peak import CLIENTS
from benchmarks.stress.plan import Plan
from benchmarks.stress.requests import drawings_of_both_kinds
from benchmarks.stress.verdicts import Claim, Row

DRAIN = Settings().drain  # seconds: the benchmark's services have less elsewhere
GRACE = Settings().shutdown_grace
ANSWERS = (200, 429)


@dataclass(frozen=True)
class Round:
    """One SIGTERM."""

    answered: int
    refused: int
    failures: tuple[str, ...]
    status: int | None  # of the exit; None: had to be killed
    seconds: float  # from the signal to the exit
    listened: float  # seconds that the socket stayed after the signal


def measure(plan: Plan) -> list[Row]:
    random = np.random.default_rng(6)
    requests = drawings_of_both_kinds()
    rounds = []
    with helpers(1) as pool:
        for _ in range(plan.rounds):
            with serving.ready(SPIKEHEAD_DRAIN=f"{DRAIN:g}") as service:
                begin = soon()
                load = pool.submit(
                    closed_loop, service.port, requests, CLIENTS, begin, 2 * GRACE, leaving=True, patience=1.0
                )
                sleep_until(begin + random.uniform(0.7, 1.3))
                signalled = last_seen = time.monotonic()
                service.process.send_signal(signal.SIGTERM)
                while (looked := time.monotonic()) < signalled + 2 * GRACE and listens(service.port):
                    last_seen = looked
                    time.sleep(0.002)
                status: int | None = None
                try:
                    status = service.process.wait(2 * GRACE)
                except subprocess.TimeoutExpired:
                    service.process.kill()
                seconds = time.monotonic() - signalled
                rounds.append(judged_round(load.result(), signalled, last_seen, status, seconds))
    return [judged(rounds)]


def listens(port: int) -> bool:
    """Tell if a socket listens on the port: these come first in the kernel's table."""
    with Path("/proc/net/tcp").open() as table:
        for line in table:
            fields = line.split()
            if fields[1] == f"0100007F:{port:04X}" and fields[3] == "0A":
                return True
            if fields[3] not in ("st", "0A", "rem_address"):
                break
    return False


def judged_round(
    tally: Tally, signalled: float, last_seen: float, status: int | None, seconds: float
) -> Round:
    """Each request is answered, refused, or a failure."""
    answered = refused = 0
    failures = []
    for code, written in zip(tally.status, tally.written, strict=True):
        if code in ANSWERS:
            answered += 1
            continue
        if code == REFUSED or (code == UNANSWERED and written > last_seen):
            refused += 1
        else:
            what = FAILURES.get(code, str(code))
            sent = "not sent whole" if math.isinf(written) else f"sent {(written - signalled) * 1000:+.0f} ms"
            failures.append(f"{what} ({sent} from the signal)")
    return Round(answered, refused, tuple(failures), status, seconds, last_seen - signalled)


def judged(rounds: list[Round]) -> Row:
    """The row of all rounds."""
    failures = [failure for each in rounds for failure in each.failures]
    admitted = sum(each.answered for each in rounds) + len(failures)
    statuses = sorted({str(each.status) for each in rounds})
    slowest = max(each.seconds for each in rounds)
    examples = f", such as {', '.join(sorted(set(failures))[:3])}" if failures else ""
    listened = [each.listened * 1000 for each in rounds]
    return Row(
        f"SIGTERM under load, {len(rounds)} times",
        (
            Claim(
                "admitted",
                f"{admitted:,} requests, {len(failures)} not answered{examples}",
                "every admitted request is answered with 200 or 429",
                not failures and admitted > 0,
            ),
            Claim(
                "exit",
                f"status {', '.join(statuses)}, after {slowest:.1f} s at most",
                f"status 0 within {GRACE:.0f} s",
                all(each.status == 0 and each.seconds <= GRACE for each in rounds),
            ),
        ),
        (
            f"{sum(each.refused for each in rounds)} refused",
            f"listened {min(listened):.0f} to {max(listened):.0f} ms after the signal",
        ),
        {"rounds": [vars(each) for each in rounds]},
    )
