"""A verdict: the figures of a test, what must hold, and if it does, as a row of the table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Claim:
    """One thing that must hold."""

    name: str
    measured: str
    must: str
    held: bool


@dataclass(frozen=True)
class Row:
    """A line of the table. `notes` were measured too, nothing is asked of them; `figures` go into the JSON."""

    test: str
    claims: tuple[Claim, ...]
    notes: tuple[str, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def held(self) -> bool:
        return all(claim.held for claim in self.claims)

    @property
    def verdict(self) -> str:
        failed = [claim.name for claim in self.claims if not claim.held]
        return f"**fails**: {', '.join(failed)}" if failed else "holds"

    def document(self) -> dict[str, Any]:
        """As JSON."""
        claims = [vars(claim) for claim in self.claims]
        return {
            "test": self.test,
            "held": self.held,
            "claims": claims,
            "notes": list(self.notes),
            "figures": self.figures,
        }


def not_measured(test: str, reason: str) -> Row:
    """A test that could not be done has not held."""
    return Row(test, (Claim("measured", f"nothing: {reason}", "be measured", False),))


def table(rows: list[Row]) -> str:
    """Markdown, a line for each test."""
    lines = ["| test | measured | must hold | verdict |", "| --- | --- | --- | --- |"]
    for row in rows:
        measured = "; ".join([*(f"{claim.name} {claim.measured}" for claim in row.claims), *row.notes])
        must = "; ".join(f"{claim.name}: {claim.must}" for claim in row.claims)
        cells = (row.test, measured, must, row.verdict)
        lines.append("| " + " | ".join(_cell(text) for text in cells) + " |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
