"""schemathesis on the whole OpenAPI document of a running service, with all its checks and all its phases.

Requests are made from the document (examples, limits of each parameter, random ones, sequences along links);
answers are held against it. One check is off for two routes: a schema cannot say which bytes are a picture of a
digit, nor how many steps a model has, so /classify and /classify/batch may refuse what the schema allows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import serving
from benchmarks.stress.plan import Plan
from benchmarks.stress.verdicts import Claim, Row

SEED = 1
CONFIGURATION = """
[[operations]]
include-path = ["/classify", "/classify/batch"]
checks.positive_data_acceptance.enabled = false
"""


def measure(plan: Plan) -> list[Row]:
    with serving.ready() as service, TemporaryDirectory() as folder:
        (Path(folder) / "schemathesis.toml").write_text(CONFIGURATION)
        report = Path(folder) / "report.json"
        command = [
            *(
                sys.executable,
                "-c",
                "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())",
            ),
            *("run", f"http://127.0.0.1:{service.port}/openapi.json"),
            *("--max-examples", str(plan.examples), "--max-time", str(plan.schemathesis)),
            *("--seed", str(SEED), "--generation-database", "none", "--suppress-health-check", "all"),
            *("--continue-on-failure", "--no-color", "--report", "json", "--report-json-path", str(report)),
        ]
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path.cwd()),
            "SCHEMATHESIS_HOOKS": "benchmarks.stress.serializers",
        }
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=plan.schemathesis + 120,
        )
        if not report.is_file():
            raise RuntimeError(
                f"expected a report of schemathesis, got {(done.stderr or done.stdout)[-500:]!r}"
            )
        if done.returncode:
            print(done.stdout, file=sys.stderr)
        return [judged(json.loads(report.read_text()))]


def judged(report: dict[str, Any]) -> Row:
    """The row of schemathesis's report."""
    failures = [
        f"{failure['title']} ({failure['count']}: {', '.join(failure['operations'])})"
        for failure in report["failures"]
    ]
    errors = [f"{error['title']} ({error['count']})" for error in report["errors"]]
    tested, total = report["operations"]["tested"], report["operations"]["total"]
    return Row(
        "schemathesis, all checks",
        (
            Claim(
                "failures",
                "; ".join([*failures, *errors]) or "none",
                "none",
                not failures and not errors and report["complete"] is True,
            ),
            Claim(
                "operations",
                f"{tested} of {total} tested, {report['test_cases']['generated']:,} requests",
                "all",
                tested == total > 0,
            ),
        ),
        (f"{report['running_time']:.0f} s",),
        {"report": report},
    )
