"""The stored figures as a table, for the terminal and for `models/README.md`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from spikehead.model.card import ModelError

from training.comparison.measure import Row

BEGIN, END = "<!-- table: python -m training compare -->", "<!-- end of table -->"

COLUMNS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("network", lambda row: row["title"]),
    ("epochs", lambda row: str(row["epochs"])),
    ("accuracy %", lambda row: f"{100 * row['accuracy']:.2f} ± {100 * row['accuracy_std']:.2f}"),
    ("after 1 step %", lambda row: f"{100 * row['accuracy_first']:.2f}"),
    ("written otherwise %", lambda row: f"{100 * row['handwriting']:.2f}"),
    ("robustness %", lambda row: f"{100 * row['robustness']:.1f}"),
    ("parameters", lambda row: f"{row['parameters']:,}"),
    ("bytes", lambda row: f"{row['bytes']:,}"),
    ("steps", lambda row: f"{row['steps']:.2f}"),
    ("active %", lambda row: "-" if row["firing_rate"] is None else f"{100 * row['firing_rate']:.1f}"),
    ("dense MACs", lambda row: f"{row['dense_multiply_accumulates']:,.0f}"),
    ("ACs", lambda row: f"{row['accumulates']:,.0f}"),
    ("MACs", lambda row: f"{row['multiply_accumulates']:,.0f}"),
    ("nJ, FP32", lambda row: f"{row['energy_fp32_nj']:,.0f}"),
    ("nJ, INT8", lambda row: f"{row['energy_int8_nj']:,.1f}"),
    ("time, onnxruntime", lambda row: f"{row['latency_onnxruntime']:.2f}"),
    ("time, native", lambda row: "-" if row["latency_native"] is None else f"{row['latency_native']:.2f}"),
)


def stored_figures(path: Path) -> dict[str, Any]:
    """Read the figures that `measure` stored. Raises ModelError if an older version did, which measured less."""
    contents: dict[str, Any] = json.loads(path.read_text())
    lacking = {one.name for one in fields(Row)} - set(contents["rows"][0])
    if lacking:
        raise ModelError(
            f"expected a table of this version in {path}, found one without {', '.join(sorted(lacking))}: "
            "make it again with --measure"
        )
    return contents


def table(contents: dict[str, Any]) -> list[list[str]]:
    """Return header and lines as text."""
    return [[title for title, _ in COLUMNS]] + [
        [show(row) for _, show in COLUMNS] for row in contents["rows"]
    ]


def markdown(contents: dict[str, Any]) -> str:
    """Write the table for `models/README.md`."""
    lines = table(contents)
    lines.insert(1, ["---"] * len(COLUMNS))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write_readme(models: Path, contents: dict[str, Any]) -> None:
    """Put the table into `models/README.md`, between its marks."""
    path = models / "README.md"
    text = path.read_text() if path.is_file() else f"# Models\n\n{BEGIN}\n{END}\n"
    if BEGIN not in text:
        text = f"{text.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{markdown(contents)}{END}{after}")
