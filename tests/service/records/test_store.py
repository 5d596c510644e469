"""The store: the same on SQLite and PostgreSQL."""

from __future__ import annotations

import random
import re
import sqlite3
import zlib
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from spikehead.inference.options import Options
from spikehead.inference.simulator import Simulator
from spikehead.pictures.normalise import prepare
from spikehead.records import (
    CursorError,
    DatabaseURLError,
    Filter,
    Ids,
    Order,
    Record,
    RecordError,
    RecordPage,
    Store,
    StoreError,
    schema,
    time_of,
)
from spikehead.records.query import Position, cursor
from spikehead.records.search import WALK, Search
from sqlalchemy import Select, update

from tests.service.records.making import BEGIN, identifier, numbers, record

ALL = Filter()
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def everything(store: Store, wanted: Filter = ALL, order: Order = "newest", limit: int = 1000) -> list[int]:
    """Numbers of all records that match, page by page."""
    found: list[int] = []
    before = None
    for _ in range(100):
        records, before = store.page(wanted, RecordPage(limit, before, order))
        assert len(records) == limit or before is None
        found += numbers(records)
        if before is None:
            return found
    raise AssertionError("the pages have no end")


def test_a_record_comes_back_as_it_was(store: Store) -> None:
    drawn = random.Random(1)
    whole = Record(
        id="18eb2282bf5a80e4137f574c",
        time=time_of("18eb2282bf5a80e4137f574c"),
        model="spiking-mha é",
        model_version="1.0.0-β",
        image=drawn.randbytes(784),
        seed=7,
        prediction=9,
        confidence=0.9999840412877558,
        steps_used=8,
        stopped_by="confidence",
        answer=drawn.randbytes(5000),
    )
    store.insert([whole])
    assert store.get(whole.id) == whole
    assert store.page(ALL, RecordPage(5)) == ([whole], None)


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_every_seed(store: Store, seed: int) -> None:
    store.insert([record(1, seed=seed)])
    assert store.get(identifier(1)).seed == seed


@pytest.mark.parametrize("confidence", [0.0, 5e-324, 0.1, 1 / 3, 1 - 2**-53, 1.0])
def test_every_confidence(store: Store, confidence: float) -> None:
    store.insert([record(1, confidence=confidence), record(2, confidence=confidence)])
    assert store.get(identifier(1)).confidence == confidence
    assert everything(store, order="confidence", limit=1) == [1, 2]


def test_unknown_ids(store: Store) -> None:
    with pytest.raises(KeyError, match=identifier(42)):
        store.get(identifier(42))
    assert store.delete(identifier(42)) is False


def after(number: int) -> str:
    """The cursor of a page that ends with a record of `making`."""
    return cursor(Position(identifier(number), record(number).confidence))


def test_newest_first_in_pages(store: Store) -> None:
    store.insert([record(2), record(1)])
    store.insert([record(number) for number in range(3, 6)])
    first, following = store.page(ALL, RecordPage(2))
    assert (numbers(first), following) == ([5, 4], after(4))
    second, following = store.page(ALL, RecordPage(2, following))
    assert (numbers(second), following) == ([3, 2], after(2))
    assert store.page(ALL, RecordPage(2, following)) == ([record(1)], None)
    assert store.page(ALL, RecordPage(5))[1] is None
    assert store.page(ALL, RecordPage(2, after(1))) == ([], None)


def test_pages_stay_where_they_are(store: Store) -> None:
    """Records that come, or go, between two pages are neither quoted twice nor hide others."""
    store.insert([record(number) for number in range(1, 7)])
    _, newest = store.page(ALL, RecordPage(2))
    _, unsure = store.page(ALL, RecordPage(2, order="confidence"))
    assert newest == after(5) and unsure is not None
    store.insert([record(7)])
    store.delete(identifier(5))
    store.delete(identifier(2))
    assert numbers(store.page(ALL, RecordPage(2, newest))[0]) == [4, 3]
    assert numbers(store.page(ALL, RecordPage(2, unsure, "confidence"))[0]) == [3, 4]


def test_least_sure_first(store: Store) -> None:
    confidences = [0.9, 0.2, 1.0, 0.2, 0.5, 1.0]
    store.insert([record(number, confidence=one) for number, one in enumerate(confidences)])
    assert everything(store, order="confidence") == [1, 3, 4, 0, 2, 5]
    assert everything(store, order="confidence", limit=1) == [1, 3, 4, 0, 2, 5]
    assert everything(store, Filter(confidence_below=0.5), order="confidence") == [1, 3]


def test_filters_at_their_bounds(store: Store) -> None:
    store.insert(
        [
            record(1, model="a", prediction=3, confidence=0.5, steps_used=1),
            record(2, model="b", prediction=4, confidence=0.6, steps_used=2),
            record(3, model="b", prediction=3, confidence=0.7, steps_used=3),
        ]
    )
    assert everything(store, Filter(model="b")) == [3, 2]
    assert everything(store, Filter(model="c")) == []
    assert everything(store, Filter(prediction=3)) == [3, 1]
    assert everything(store, Filter(confidence_below=0.6)) == [1]
    assert everything(store, Filter(steps_at_least=2)) == [3, 2]
    assert everything(store, Filter(since=BEGIN + 2)) == [3, 2]
    assert everything(store, Filter(until=BEGIN + 2)) == [1]
    assert everything(store, Filter(since=BEGIN + 1.5, until=BEGIN + 2.5)) == [2]
    assert everything(store, Filter("b", 3, 0.8, 3, BEGIN + 3, BEGIN + 4)) == [3]
    assert everything(store, Filter("b", 3, 0.7, 3, BEGIN + 3, BEGIN + 4)) == []


def test_since_is_included_and_until_is_not(store: Store) -> None:
    store.insert([record(0), record(1)])  # record 0 has the first id of its moment
    assert everything(store, Filter(since=BEGIN)) == [1, 0]
    assert everything(store, Filter(until=BEGIN)) == []
    assert everything(store, Filter(until=BEGIN + 1e-6)) == [0]
    assert store.delete_until(BEGIN) == 0
    assert store.delete_until(BEGIN + 1) == 1


def test_since_and_until_a_record_s_own_time(store: Store) -> None:
    ids = Ids().some(3)
    store.insert([record(0)._replace(id=one, time=time_of(one)) for one in ids])
    moment = store.get(ids[1]).time
    assert len(store.page(Filter(since=moment), RecordPage(9))[0]) == 3  # of the same microsecond
    assert store.page(Filter(until=moment), RecordPage(9))[0] == []


@pytest.mark.parametrize("walk", [7, WALK])
def test_all_filters_and_orders_against_a_plain_search(
    store: Store, monkeypatch: pytest.MonkeyPatch, walk: int
) -> None:
    """Whether a query walks or gathers, it finds the same."""
    monkeypatch.setattr("spikehead.records.search.WALK", walk)
    drawn = random.Random(walk)
    records = [
        record(
            number,
            model=drawn.choice(["a", "b"]),
            prediction=drawn.randrange(3),
            confidence=drawn.choice([0.25, 0.5, 0.75, 1.0]),
            steps_used=drawn.randrange(1, 5),
        )
        for number in range(60)
    ]
    store.insert(records)
    choices = product([None, "a"], [None, 1], [None, 0.75], [None, 3], [None, BEGIN + 10], [None, BEGIN + 50])
    for model, prediction, below, steps, since, until in choices:
        wanted = Filter(model, prediction, below, steps, since, until)
        matching = [
            one
            for one in records
            if (model is None or one.model == model)
            and (prediction is None or one.prediction == prediction)
            and (below is None or one.confidence < below)
            and (steps is None or one.steps_used >= steps)
            and (since is None or one.time >= since)
            and (until is None or one.time < until)
        ]
        newest = sorted(matching, key=lambda one: one.id, reverse=True)
        unsure = sorted(matching, key=lambda one: (one.confidence, one.id))
        assert everything(store, wanted, limit=23) == numbers(newest), wanted
        assert everything(store, wanted, "confidence", limit=23) == numbers(unsure), wanted


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(model="a\0b"),
        Filter(model="a\ud800"),
        Filter(prediction=10**30),
        Filter(prediction=-(10**30)),
        Filter(steps_at_least=10**30),
    ],
)
def test_values_that_no_record_can_have(store: Store, wanted: Filter) -> None:
    store.insert([record(1)])
    assert everything(store, wanted) == []
    assert everything(store, wanted, "confidence") == []
    assert everything(store, Filter(steps_at_least=-(10**30))) == [1]


@pytest.mark.parametrize("text", ["", "42", "a\0b", "\ud800", "A" * 24, "0" * 25])
def test_text_that_is_no_id(store: Store, text: str) -> None:
    with pytest.raises(KeyError):
        store.get(text)
    assert store.delete(text) is False


def test_a_damaged_record(store: Store) -> None:
    store.insert([record(1), record(2)])
    with store._database.writing.begin() as connection:
        damage = update(schema.records).where(schema.records.c.id == identifier(1))
        connection.execute(damage.values(answer=b"no zlib"))
    with pytest.raises(StoreError, match=f"{identifier(1)} is damaged .*incorrect header check"):
        store.get(identifier(1))
    assert store.page(ALL, RecordPage(2))[0] == [record(2)]  # the others can be read
    assert [one.id for one in store.page(ALL, RecordPage(2), whole=False)[0]] == [
        identifier(2),
        identifier(1),
    ]
    assert store.delete(identifier(1)) is True


@pytest.mark.parametrize("order", ["newest", "confidence"])
def test_bad_cursor(store: Store, order: Order) -> None:
    with pytest.raises(CursorError, match="expected a cursor"):
        store.page(ALL, RecordPage(1, "'; DROP TABLE records", order))


def test_a_record_is_stored_once(store: Store) -> None:
    """Tried again after a commit whose answer was lost, what is there stays."""
    store.insert([record(1)])
    store.insert([record(1, model="other"), record(2)])
    assert everything(store) == [2, 1]
    assert store.get(identifier(1)).model == "tiny"


def test_none_of_a_group_where_one_is_refused(store: Store) -> None:
    broken = record(2)._replace(model=None)  # type: ignore[arg-type]
    with pytest.raises(RecordError):
        store.insert([record(1), broken])
    assert everything(store) == []
    with pytest.raises(RecordError, match="expected a record that can be stored, got"):
        store.insert([record(1)._replace(image=None)])  # type: ignore[arg-type]
    store.insert([])
    assert everything(store) == []


def test_deletion(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikehead.records.store._CHUNK", 3)
    store.insert([record(number) for number in range(10)])
    assert store.delete(identifier(9)) is True
    assert store.delete(identifier(9)) is False
    assert store.delete_until(BEGIN + 7) == 7
    assert store.delete_until(BEGIN + 7) == 0
    assert everything(store) == [8, 7]


def test_pruning(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikehead.records.store._CHUNK", 3)
    store.insert([record(number) for number in range(20)])
    assert store.prune(None, None) == 0
    assert store.prune(20, BEGIN + 0.0) == 0
    assert store.prune(None, BEGIN + 2.0) == 2
    assert store.prune(14, None) == 4
    assert everything(store) == list(range(19, 5, -1))
    assert store.prune(13, BEGIN + 8.0) == 2
    assert store.prune(2, None, at_most=4) == 6  # two transactions of three
    assert store.prune(2, None) == 4
    assert everything(store) == [19, 18]
    assert store.prune(0, None) == 2
    assert everything(store) == []


def test_a_store_is_used_again_after_it_was_closed(store: Store) -> None:
    store.insert([record(1)])
    store.close()
    assert everything(store) == [1]


# --------------------------------------------------------------------------------------------------- on disk


def test_a_typical_record_takes_about_a_kilobyte(shipped: Simulator, tmp_path: Path) -> None:
    """Ten examples, thirty times each."""
    options = Options(max_steps=shipped.card.max_steps, confidence=0.99, seed=0)
    images = np.stack(
        [prepare(path.read_bytes(), max_pixels=10**6) for path in sorted(EXAMPLES.glob("*.png"))]
    )
    source, records = Ids(), []
    for turn in range(30):
        ids = source.some(len(images))
        answers = shipped.answers(images, range(turn, turn + len(images)), options, [0.01] * len(images), ids)
        records += [
            Record(
                one,
                time_of(one),
                shipped.card.name,
                shipped.card.version,
                image.tobytes(),
                turn,
                answer.prediction,
                answer.confidence,
                answer.steps,
                answer.stopped_by,
                answer.json,
            )
            for one, image, answer in zip(ids, images, answers, strict=True)
        ]
    store = Store(f"sqlite:///{tmp_path}/records.db")
    store.insert(records)
    store.close()
    assert 500 < (tmp_path / "records.db").stat().st_size / len(records) < 1500


@pytest.mark.parametrize("count", [1, 49, 50, 51, 120])
def test_groups_of_any_size(store: Store, count: int) -> None:
    """Rows go to SQLite by fifties; those that are there already stay as they are."""
    some = [record(number) for number in range(count)]
    store.insert(some[:1])
    store.insert([some[0]._replace(prediction=9), *some[1:]])
    assert [store.get(one.id) for one in some] == some


def test_rows_as_they_used_to_be_can_be_read(store: Store) -> None:
    store.insert([record(1)])
    packed = {"answer": zlib.compress(b'{"a":1}'), "image": zlib.compress(bytes(range(196)) * 4)}
    with store._database.writing.begin() as connection:
        connection.execute(update(schema.records).values(**packed))
    assert store.get(identifier(1)).answer == b'{"a":1}'
    assert store.get(identifier(1)).image == bytes(range(196)) * 4


@pytest.mark.parametrize(
    "image", [b"", b"no zlib", zlib.compress(bytes(783)), bytes(783), b"\x01", b"\x01" + bytes(99)]
)
def test_an_image_that_is_none(store: Store, image: bytes) -> None:
    store.insert([record(1)])
    with store._database.writing.begin() as connection:
        connection.execute(update(schema.records).values(image=image))
    with pytest.raises(StoreError, match="is damaged"):
        store.get(identifier(1))


def test_sqlite_is_durable(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/records.db")
    store.insert([record(1)])
    with store._database.reading.connect() as connection:

        def pragma(name: str) -> object:
            return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()

        assert pragma("journal_mode") == "wal"
        assert pragma("synchronous") == 2  # FULL
        assert pragma("busy_timeout") == 5000
        assert pragma("secure_delete") == 1
    store.close()


def test_what_is_forgotten_is_not_in_the_file(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/records.db")
    secret = random.Random(5).randbytes(40).hex()
    store.insert([record(number, stopped_by=secret if number == 3 else "max_steps") for number in range(9)])
    store.close()
    file = tmp_path / "records.db"
    assert secret.encode() in file.read_bytes()
    store.delete(identifier(3))
    store.close()
    assert secret.encode() not in file.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["records.db"]


KEYS = "sqlite_autoindex_records_1"


@pytest.mark.parametrize(
    ("wanted", "order", "walk", "gather"),
    [
        (Filter(), "newest", f"SCAN records USING INDEX {KEYS}", []),
        (Filter(since=1.0, until=2.0), "newest", f"{KEYS} (id>? AND id<?)", [f"{KEYS} (id>? AND id<?)"]),
        (Filter(model="a"), "newest", "records_model (model=?)", ["records_model (model=?)"]),
        (
            Filter(model="a", prediction=3, since=1.0),
            "newest",
            "records_prediction (prediction=? AND id>?)",
            [
                "records_prediction (prediction=? AND id>?)",
                "records_model (model=? AND id>?)",
                f"{KEYS} (id>?)",
            ],
        ),
        (
            Filter(model="a", confidence_below=0.5, steps_at_least=3),
            "newest",
            "records_model (model=?)",
            [
                "records_model (model=?)",
                "records_steps_used (steps_used>?)",
                "records_confidence (confidence<?)",
            ],
        ),
        (Filter(), "confidence", "SCAN records USING COVERING INDEX records_confidence", []),
        (
            Filter(confidence_below=0.5, model="a"),
            "confidence",
            "records_confidence (confidence<?)",
            ["records_model (model=?)", "records_confidence (confidence<?)"],
        ),
    ],
)
def test_indexes_serve_the_filters(
    tmp_path: Path, wanted: Filter, order: Order, walk: str, gather: list[str]
) -> None:
    """SQLite does as it is meant to: `python -m benchmarks.records` shows what that gives."""
    store = Store(f"sqlite:///{tmp_path}/records.db")
    store.open()
    connection = sqlite3.connect(tmp_path / "records.db")

    def plan(statement: Select[Any]) -> list[str]:
        compiled = statement.compile(store._database.reading, compile_kwargs={"literal_binds": True})
        return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {compiled}")]

    search = Search(wanted, RecordPage(100, None, order))
    steps = plan(search.walk())
    assert any(walk in step for step in steps)
    assert not search.outside or "CO-ROUTINE anon_1" in steps
    assert sum("TEMP B-TREE" in step for step in steps) == bool(search.outside)  # of what was walked through
    for index, conditions in zip(gather, search.indexed, strict=True):
        assert index in plan(search.gather(conditions))[0]
    connection.close()
    store.close()


def test_the_rarest_condition_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"sqlite:///{tmp_path}/records.db")
    store.insert([record(n, model="rare" if n == 7 else "usual", steps_used=n) for n in range(10)])
    usual = Search(Filter(model="usual", steps_at_least=9), RecordPage(5))
    rare = Search(Filter(model="rare", steps_at_least=1), RecordPage(5))
    with store._begin(store._database.reading) as connection:
        assert usual.rarest(connection) is usual.indexed[1]
        assert rare.rarest(connection) is rare.indexed[0]
        monkeypatch.setattr("spikehead.records.search.GLANCE", 1)
        assert usual.rarest(connection) is usual.indexed[0]
    store.close()


# -------------------------------------------------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("records.db", "got text that is not a URL"),
        ("", "got text that is not a URL"),
        ("mysql://root:secret@localhost/records", "got mysql"),
        ("postgresql+asyncpg://localhost/records", r"got postgresql\+asyncpg"),
        ("sqlite://", "got SQLite without a plain file"),
        ("sqlite:///:memory:", "got SQLite without a plain file"),
        ("sqlite:///file:records.db?uri=true", "got SQLite without a plain file"),
    ],
)
def test_urls_that_name_no_database(url: str, message: str) -> None:
    expected = r"expected sqlite:///FILE or postgresql\+psycopg://USER:PASSWORD@HOST/NAME, "
    with pytest.raises(DatabaseURLError, match=expected + message) as caught:
        Store(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("pool_size=5", 'invalid connection option "pool_size"'),
        ("prepare_threshold=5", "the option prepare_threshold, which the service sets itself: leave it out"),
        ("autocommit=true", "the option autocommit, which the service sets itself: leave it out"),
        ("connect_timeout=soon", "the option connect_timeout='soon': give a whole number"),
        ("keepalives_idle=1.5", "the option keepalives_idle='1.5': give a whole number"),
        ("sslmode=maybe", 'invalid sslmode value: "maybe"'),
        ("application_name=a&application_name=b", "the option application_name more than once: give it once"),
    ],
)
def test_options_that_the_driver_cannot_take(options: str, message: str) -> None:
    with pytest.raises(DatabaseURLError, match=re.escape(message)) as caught:
        Store(f"postgresql://user:secret@localhost:1/records?{options}")
    told = str(caught.value)
    assert "secret" not in told and "\n" not in told and told.count("expected") == 1


def test_options_that_the_driver_takes() -> None:
    options = (
        "sslmode=require&connect_timeout=3&application_name=digits&options=-csearch_path%3Da&keepalives=1"
    )
    Store(f"postgresql://user@localhost:1/records?{options}&host=one:5432&host=two:5433").close()


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_the_driver_may_be_left_out(scheme: str) -> None:
    store = Store(f"{scheme}://user:secret@localhost:1/records")
    assert store._database.url.drivername == "postgresql+psycopg"
    store.close()


def test_a_driver_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(
        DatabaseURLError, match=r"psycopg to be installed \(pip install 'spikehead\[postgres\]'\)"
    ):
        Store("postgresql://localhost/records")


def test_a_path_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("sqlite:///a folder/records.db")
    assert not (tmp_path / "a folder").exists()  # nothing is touched before it is used
    store.open()
    assert (tmp_path / "a folder" / "records.db").is_file()
    store.close()
