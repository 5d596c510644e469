"""The Python in docs/python.md runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import SHIPPED
from tests.service.serving import ROOT, serving, until

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_examples_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One after the other, as somebody would type them in; the service is another one than on port 8000."""
    blocks = BLOCK.findall((ROOT / "docs" / "python.md").read_text())
    assert len(blocks) == 7
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    database = f"sqlite:///{tmp_path}/records.db"
    with serving(SHIPPED.parent, DATABASE_URL=database, DEFAULT_MODEL=SHIPPED.name) as (port, _):
        until(port, "/health/ready")
        for block in blocks:
            exec(block.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{port}"), names)
            assert "print" not in block or capsys.readouterr().out
