"""Search for a page of records: by walking along an index, or by gathering what matches and sorting it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, literal, select, tuple_

from spikehead.records import schema
from spikehead.records.query import Filter, Position, RecordPage, position
from spikehead.records.record import first_id

WALK = 5_000
"""Records that a query looks through in order, before it gathers and sorts those that match instead."""

GLANCE = 20_000
"""Records that are counted, at most, to see which condition is the rarest."""

_POSITION = ("id", "confidence")
_FILTERED = ("id", "model", "prediction", "confidence", "steps_used")
_Condition = Callable[[Any], ColumnElement[bool]]  # on the columns of the table, or on what stands for them

# the same values, but no index has them
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
        self._count = page.limit + 1  # one more, to see whether a page follows
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
        # what one index knows together: the id comes last in each
        self.indexed = [[one, *window] for one in equal] + [one for one in (steps, unsure, window) if one]
        if self._newest_first:
            self._inside = equal[:1] + window + after  # an index on one column goes on in order of id
            self.outside = equal[1:] + steps + unsure
        else:
            self._inside = unsure + after
            self.outside = window + equal + steps

    def positions(self, connection: Connection) -> list[Position]:
        """Return the positions of the page's records, and of one more if there is one.

        It walks in order, and stops when it has enough: fast where many records match, since none is sorted.
        Unless the index knows all conditions it stops after WALK records. Then the records that match are gathered
        by the index that finds the fewest, and sorted: fast where few match. A planner of a database knows neither
        how rare a value is nor where the matching records lie; so the choice is made here.
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
        """By an index for these conditions; all others, and the order, are put so that no index knows them."""
        others = [one for one in self._all if one not in by]
        found = _select(schema.records.c, _POSITION, by).where(*(condition(_plain) for condition in others))
        return found.order_by(*self._order(_plain)).limit(self._count)

    def rarest(self, connection: Connection) -> list[_Condition]:
        """The conditions of one index that the fewest records meet, as far as a glance tells."""

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
    """The nearest that fits into the column: a digit or steps beyond that no record has either."""
    return max(-(2**15), min(number, 2**15 - 1))


def _text(name: str) -> str:
    """The same, but for what PostgreSQL or UTF-8 has no place for: that becomes what no model's name has."""
    return name.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
