"""Cursors."""

import pytest

from service.records import CursorError, Page
from service.records.query import Position, cursor, position

ID = "0123456789abcdef01234567"


def test_a_cursor_marks_its_position() -> None:
    assert cursor("newest", Position(ID, 0.25)) == ID
    assert position(Page(1, ID)) == Position(ID)
    for confidence in (0.0, 0.1, 1 / 3, 0.9999840412877558, 1.0):
        text = cursor("confidence", Position(ID, confidence))
        assert position(Page(1, text, "confidence")) == Position(ID, confidence)
    assert cursor("confidence", Position(ID, 0.25)) == "3fd0000000000000" + ID


def test_the_beginning_has_none() -> None:
    assert position(Page(1)) is None
    assert position(Page(1, order="confidence")) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected a cursor of 24 hexadecimal digits for order newest, got ''"),
        ("42", r"expected a cursor of 24 hexadecimal digits for order newest, got '42'"),
        (ID.upper(), r"expected a cursor of 24 .*, got '0123456789ABCDEF01234567'"),
        (ID + "\n", r"expected a cursor of 24"),
        ("3fd0000000000000" + ID, r"expected a cursor of 24"),
        ("x" * 1000, r"got 'x{60}'$"),
    ],
)
def test_bad_cursors(text: str, message: str) -> None:
    with pytest.raises(CursorError, match=message):
        position(Page(1, text))


@pytest.mark.parametrize("text", [ID, "3fd0000000000000", "3FD0000000000000" + ID, "-fd0000000000000" + ID])
def test_bad_cursors_by_confidence(text: str) -> None:
    with pytest.raises(CursorError, match="expected a cursor of 40 hexadecimal digits for order confidence"):
        position(Page(1, text, "confidence"))


@pytest.mark.parametrize("number", ["7ff0000000000000", "7ff8000000000000"])
def test_a_confidence_is_finite(number: str) -> None:
    with pytest.raises(CursorError, match="expected a cursor with a finite confidence"):
        position(Page(1, number + ID, "confidence"))


def test_a_cursor_error_is_a_value_error() -> None:
    assert issubclass(CursorError, ValueError)
