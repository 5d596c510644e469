"""Cursors."""

import pytest
from spikehead.records import CursorError, Order, RecordPage
from spikehead.records.query import CURSOR, Position, cursor, position
from spikehead.web.documents.queries import RecentQuery

ID = "0123456789abcdef01234567"


@pytest.mark.parametrize("order", ["newest", "confidence"])
@pytest.mark.parametrize("confidence", [0.0, 5e-324, 0.1, 1 / 3, 0.25, 1.0])
def test_a_cursor_marks_its_position(order: Order, confidence: float) -> None:
    """To the last bit, in any order."""
    text = cursor(Position(ID, confidence))
    assert position(RecordPage(10, text, order)) == (ID, confidence)


def test_what_a_cursor_looks_like() -> None:
    assert cursor(Position(ID, 0.25)) == "3fd0000000000000" + ID
    assert position(RecordPage(10)) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "42",
        ID,
        "3fd0000000000000" + ID.upper(),
        "3fd0000000000000" + ID + "\n",
        "3fd0000000000000" + ID + "0",
        "7ff0000000000000" + ID,  # infinite
        "7ff8000000000000" + ID,  # not a number
        "bfd0000000000000" + ID,  # negative
        "x" * 40,
    ],
)
def test_bad_cursors(text: str) -> None:
    with pytest.raises(
        CursorError, match="expected a cursor of 40 hexadecimal digits, the first from 0 to 3, got"
    ):
        position(RecordPage(10, text))


def test_the_document_knows_what_a_cursor_is() -> None:
    (found,) = [one.pattern for one in RecentQuery.model_fields["before"].metadata if hasattr(one, "pattern")]
    assert found == f"^{CURSOR.pattern}$"


def test_a_cursor_error_is_a_value_error() -> None:
    assert issubclass(CursorError, ValueError)
