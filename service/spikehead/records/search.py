"""Search for a page of records: by walking along an index, or by gathering and sorting all that match."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, literal, select, tuple_

from spikehead.records import schema
from spikehead.records.query import Filter, Position, RecordPage, position
from spikehead.records.record import first_id

WALK = 5_000
"""Records that a query reads in order before it gathers and sorts those that match instead."""

GLANCE = 20_000
"""Most records that are counted to find the rarest condition."""

_POSITION = ("id", "confidence")
_FILTERED = ("id", "model", "prediction", "confidence", "steps_used")
_Condition = Callable[[Any], ColumnElement[bool]]
"""A condition on the columns of the table, or on expressions in their place."""

# expressions of the same values, for which the database uses no index
_plain = SimpleNamespace(
    id=schema.records.c.id + literal(""),
    model=schema.records.c.model + literal(""),
    prediction=schema.records.c.prediction + 0,
    confidence=schema.records.c.confidence + 0,
    steps_used=schema.records.c.steps_used + 0,
)


class Search:
    """The queries that find the ids of a page."""

    def __init__(self, wanted: Filter, page: RecordPage) -> None:
        """Raises CursorError."""
        self._newest_first = page.order == "newest"
        # one more shows if a page follows
        self._count = page.limit + 1
        start = position(page)
        window: list[_Condition] = []
        if wanted.since is not None:
            since = first_id(wanted.since)
            window.append(lambda c: c.id >= since)
        if wanted.until is not None:
            until = first_id(wanted.until)
            window.append(lambda c: c.id < until)
        equal: list[_Condition] = []
        if wanted.prediction is not None:
            prediction = _small(wanted.prediction)
            equal.append(lambda c: c.prediction == prediction)
        if wanted.model is not None:
            model = _text(wanted.model)
            equal.append(lambda c: c.model == model)
        steps: list[_Condition] = []
        if wanted.steps_at_least is not None:
            least = _small(wanted.steps_at_least)
            steps.append(lambda c: c.steps_used >= least)
        unsure: list[_Condition] = []
        if wanted.confidence_below is not None:
            unsure.append(lambda c: c.confidence < wanted.confidence_below)
        after: list[_Condition] = []
        if start is not None and self._newest_first:
            after.append(lambda c: c.id < start.id)
        elif start is not None:
            after.append(lambda c: tuple_(c.confidence, c.id) > tuple_(start.confidence, start.id))

        self._all = window + equal + steps + unsure + after
        # conditions that one index covers together: the id comes last in each
        self.indexed = [[one, *window] for one in equal] + [one for one in (steps, unsure, window) if one]
        if self._newest_first:
            # within one value, an index is in order of id
            self._inside = equal[:1] + window + after
            self.outside = equal[1:] + steps + unsure
        else:
            self._inside = unsure + after
            self.outside = window + equal + steps

    def positions(self, connection: Connection) -> list[Position]:
        """Return the positions of the page's records, and of one more if there is one.

        Walking in order is fast if many records match. Unless the index covers all conditions, it stops after WALK
        records. Then all that match are gathered by the index that finds the fewest, and sorted: fast if few match.
        The database's planner does not know how rare a value is or where the records lie, so the choice is made here.
        """
        found = _positions(connection, self.walk())
        if len(found) < self._count and self.outside:
            found = _positions(connection, self.gather(self.rarest(connection)))
        return found

    def walk(self) -> Select[Any]:
        columns = schema.records.c
        if not self.outside:
            found = _select(columns, _POSITION, self._inside).order_by(*self._order(columns))
        else:
            near = _select(columns, _FILTERED, self._inside).order_by(*self._order(columns))
            part = near.limit(WALK).subquery().c
            found = _select(part, _POSITION, self.outside).order_by(*self._order(part))
        return found.limit(self._count)

    def gather(self, by: list[_Condition]) -> Select[Any]:
        """Select by an index for these conditions, and keep the database from using one for the others or the order."""
        others = [one for one in self._all if one not in by]
        found = _select(schema.records.c, _POSITION, by).where(*(condition(_plain) for condition in others))
        return found.order_by(*self._order(_plain)).limit(self._count)

    def rarest(self, connection: Connection) -> list[_Condition]:
        """Return the conditions of the index that the fewest records meet, of GLANCE at most."""

        def met(conditions: list[_Condition]) -> int:
            some = _select(schema.records.c, ("id",), conditions).limit(GLANCE).subquery()
            return connection.execute(select(func.count()).select_from(some)).scalar_one()

        return min(self.indexed, key=met) if len(self.indexed) > 1 else self.indexed[0]

    def _order(self, columns: Any) -> list[Any]:
        return [columns.id.desc()] if self._newest_first else [columns.confidence, columns.id]


def _select(columns: Any, names: Sequence[str], conditions: list[_Condition]) -> Select[Any]:
    return select(*(columns[name] for name in names)).where(*(condition(columns) for condition in conditions))


def _positions(connection: Connection, statement: Select[Any]) -> list[Position]:
    return [Position(*row) for row in connection.execute(statement)]


def _small(number: int) -> int:
    """Clip a number to the range of the column, beyond which no record has digits or steps."""
    return max(-(2**15), min(number, 2**15 - 1))


def _text(name: str) -> str:
    """Replace characters that PostgreSQL or UTF-8 cannot hold, and that no model's name has."""
    return name.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
