"""Everything that the service must withstand: `make stress`, or `python -m benchmarks.stress`. Linux only.

    --only NAME   one test, may be repeated: see --help; `overload-raw` is done only so
    --quick       short durations, to try the tests themselves

Prints a table as Markdown, a line and a verdict for each test; exit status 1 where one has not held. A whole run
(no --only, no --quick) also writes benchmarks/results-stress.json. Takes about 12 minutes.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.machine import processor, today
from benchmarks.stress import (
    behind,
    contract,
    forgetting,
    killed,
    mutated,
    overload,
    shutdown,
    slow,
    soak,
    start,
)
from benchmarks.stress.plan import FULL, QUICK, Plan
from benchmarks.stress.verdicts import Row, not_measured, table

TESTS: dict[str, Callable[[Plan], list[Row]]] = {
    "start": start.measure,
    "contract": contract.measure,
    "mutated": mutated.measure,
    "overload": overload.measure,
    "overload-raw": overload.measure_raw,
    "slow": slow.measure,
    "shutdown": shutdown.measure,
    "haproxy": behind.measure_haproxy,
    "nginx": behind.measure_nginx,
    "killed": killed.measure,
    "forgetting": forgetting.measure,
    "soak": soak.measure,
}
BESIDES = {"overload-raw"}
"""Not part of a whole run: nobody asks for it, and one process of Python cannot hold it on the cores of its clients."""

RESULTS = Path("benchmarks/results-stress.json")


def run(names: list[str], plan: Plan) -> list[Row]:
    """The tests one after the other. One that cannot be done has not held; the others go on."""
    rows = []
    for name in names:
        began = time.monotonic()
        try:
            found = TESTS[name](plan)
        except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
            found = [not_measured(name, f"{type(error).__name__}: {error}")]
        rows += found
        for row in found:
            print(f"{name}: {row.verdict} ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stress", description="What the service withstands."
    )
    parser.add_argument("--only", action="append", choices=list(TESTS), help="this test; may be repeated")
    parser.add_argument("--quick", action="store_true", help="short durations, to try the tests themselves")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # services are ended on the way out
    began = time.monotonic()
    wanted = [name for name in TESTS if name not in BESIDES]
    rows = run(arguments.only or wanted, QUICK if arguments.quick else FULL)
    print(f"{processor()}, {today()}, {(time.monotonic() - began) / 60:.0f} minutes\n\n{table(rows)}")
    if not (arguments.only or arguments.quick):
        document = {"machine": processor(), "date": today(), "tests": [row.document() for row in rows]}
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    sys.exit(0 if all(row.held for row in rows) else 1)


if __name__ == "__main__":
    main()
