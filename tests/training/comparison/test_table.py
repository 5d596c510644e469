"""The table: its lines, and its place in `models/README.md`."""

from __future__ import annotations

from pathlib import Path

from tests.training.comparison.conftest import contents_of, row
from training.comparison.table import BEGIN, END, markdown, table, write_readme


def test_a_line_of_the_table_by_hand() -> None:
    spiking = row("spiking-mha", firing_rate=0.0567, accumulates=1234.5, latency_native=None)
    header, first, second = table(contents_of(row(), spiking))
    assert header == [
        "network", "epochs", "accuracy %", "after 1 step %", "written otherwise %", "robustness %",
        "parameters", "bytes", "steps", "active %",
        "dense MACs", "ACs", "MACs", "nJ, FP32", "nJ, INT8", "time, onnxruntime", "time, native",
    ]  # fmt: skip
    assert first == [
        "GLM output neurons alone", "8", "98.77 ± 0.04", "97.53", "86.42", "54.3",
        "7,860", "12,345", "3.14", "-", "24,630", "0", "3,457", "16", "0.8", "1.23", "0.06",
    ]  # fmt: skip
    assert (second[9], second[11], second[16]) == ("5.7", "1,234", "-")


def test_the_table_in_markdown() -> None:
    lines = markdown(contents_of(row(), row())).splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("| network | epochs | accuracy % |") and lines[0].endswith("| time, native |")
    assert lines[1] == "| " + " | ".join(["---"] * 17) + " |"
    assert lines[2] == lines[3] == "| " + " | ".join(table(contents_of(row()))[1]) + " |"


def test_the_readme_has_the_table_between_its_marks(tmp_path: Path) -> None:
    """What stands around them stays, however often the table is made again."""
    readme = tmp_path / "README.md"
    readme.write_text(f"# Models\n\nBefore.\n\n{BEGIN}\n| old |\n{END}\n\nAfter.\n")
    for contents in (contents_of(row(), row()), contents_of(row(title="new"))):
        write_readme(tmp_path, contents)
        expected = f"# Models\n\nBefore.\n\n{BEGIN}\n{markdown(contents)}{END}\n\nAfter.\n"
        assert readme.read_text() == expected


def test_a_readme_is_begun_where_there_is_none(tmp_path: Path) -> None:
    write_readme(tmp_path, contents_of(row()))
    expected = f"# Models\n\n{BEGIN}\n{markdown(contents_of(row()))}{END}\n"
    assert (tmp_path / "README.md").read_text() == expected
