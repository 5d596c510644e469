"""Records are fetched and forgotten right after the answer, whichever process is asked, and then gone from disk.

8 clients post pictures, each with ink of its own, and ask for each record at once on a new connection: first to
fetch it, then, in a second round, to forget it. Two workers share a SQLite file; two services share a PostgreSQL
database if SPIKEHEAD_TEST_POSTGRES_URL names one, and each is asked for what the other has answered.

    fetched   of the records that were asked for by id, those that were not there
    listed    of some records that were asked for by a list of the newest ones, those that were not in it
    forgotten of the deletions by id, those that failed; of the records deleted, those that were there a moment later
    until     of the records answered just before `DELETE /spikes?until=now`, those that were there afterwards
    on disk   forgotten pictures whose bytes are in any file of the SQLite database; of PostgreSQL it is told, if its
              files can be read, what is left of those deleted by id, and what VACUUM changes: nothing is asked of that
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sqlalchemy import URL, create_engine, make_url, text

from benchmarks import serving
from benchmarks.stress.plan import Plan
from benchmarks.stress.verdicts import Claim, Row

CLIENTS = 8
LISTED_EVERY = 10
UNTIL = 40
"""Records that are answered just before all are forgotten."""

MOMENT = 1.0
"""Seconds after which what was forgotten is looked for again: by then every queue has been written."""

SERVER = "SPIKEHEAD_TEST_POSTGRES_URL"


@dataclass(frozen=True)
class Found:
    """Counts of what failed, which have to be 0, and how many records were asked for."""

    asked: int  # records that were fetched, and as many that were forgotten
    not_fetched: int
    not_listed: int
    not_forgotten: int
    there_again: int
    left_by_time: int
    on_disk: int | None  # None: the files are PostgreSQL's own


def measure(plan: Plan) -> list[Row]:
    with two_workers() as (ports, folder):
        rows = [judged("SQLite, 2 workers", exercised(ports, plan.remembered, folder))]
    if os.environ.get(SERVER):
        with two_services(os.environ[SERVER]) as (ports, database):
            found = exercised(ports, plan.remembered)
            notes = left_by_postgresql(database, pictures(plan.remembered)[1])
        rows.append(judged("PostgreSQL, 2 services", found, notes))
    return rows


@contextmanager
def two_workers() -> Iterator[tuple[Sequence[int], Path]]:
    """One port, behind which two processes answer, and the folder of their database."""
    with TemporaryDirectory() as name:
        url = f"sqlite:///{name}/records.db"
        with serving.ready(SPIKEHEAD_WORKERS="2", SPIKEHEAD_DATABASE_URL=url) as service:
            yield [service.port], Path(name)


@contextmanager
def two_services(server: str) -> Iterator[tuple[Sequence[int], URL]]:
    """The ports of two services with one database, which is made for them, and its URL."""
    url, name = make_url(server), f"forgetting_{secrets.token_hex(8)}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        try:
            with ExitStack() as stack:
                database = url.set(database=name)
                shown = database.render_as_string(hide_password=False)
                services = [serving.ready(SPIKEHEAD_DATABASE_URL=shown) for _ in range(2)]
                yield [stack.enter_context(service).port for service in services], database
        finally:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


def exercised(ports: Sequence[int], count: int, folder: Path | None = None) -> Found:
    """Fetch `count` records and forget `count` others, each right after it was answered."""
    fetched, deleted, last = pictures(count)
    turns = range(10**9)
    with ThreadPoolExecutor(CLIENTS) as pool:
        seen = list(pool.map(_fetch, repeat(ports), turns, fetched))
        gone = list(pool.map(_forget, repeat(ports), turns, deleted))
        time.sleep(MOMENT)
        again = pool.map(lambda one: _ask(ports[0], "GET", f"/spikes/{one[0]}")[0], gone)
        there_again = sum(status != 404 for status in again)
        latest = list(pool.map(lambda turn, body: _post(ports, turn, body), turns, last))
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        _ask(ports[0], "DELETE", f"/spikes?until={now}")
        time.sleep(MOMENT)
        left = pool.map(lambda identifier: _ask(ports[-1], "GET", f"/spikes/{identifier}")[0], latest)
        left_by_time = sum(status != 404 for status in left)
    on_disk = None
    if folder is not None:
        files = b"".join(path.read_bytes() for path in folder.iterdir())
        on_disk = sum(ink(one) in files for one in [*deleted, *last])
    return Found(
        count,
        sum(status != 200 for status, _ in seen),
        sum(not listed for _, listed in seen),
        sum(status != 204 for _, status in gone),
        there_again,
        left_by_time,
        on_disk,
    )


def left_by_postgresql(database: URL, deleted: Sequence[bytes]) -> tuple[str, ...]:
    """Notes of how many of the pictures are in PostgreSQL's own files; none if its folder cannot be read here."""
    engine = create_engine(database, isolation_level="AUTOCOMMIT")
    notes = []
    with engine.connect() as connection:
        folder = Path(connection.execute(text("SHOW data_directory")).scalar_one())
        for done in ("DELETE", "VACUUM", "VACUUM FULL"):
            if done != "DELETE":
                connection.execute(text(f"{done} records"))
            connection.execute(text("CHECKPOINT"))
            try:
                files = {
                    part: b"".join(path.read_bytes() for path in (folder / part).rglob("*") if path.is_file())
                    for part in ("base", "pg_wal")
                }
            except OSError:
                break
            tables, log = (sum(ink(one) in data for one in deleted) for data in files.values())
            notes.append(f"after {done} {tables} of {len(deleted)} in its tables, {log} in its log")
    engine.dispose()
    return tuple(notes)


def pictures(count: int) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Pictures to be fetched, to be deleted by id, and by time; always the same."""
    random = np.random.default_rng(7)
    found = [picture(random) for _ in range(2 * count + UNTIL)]
    return found[:count], found[count : 2 * count], found[2 * count :]


def picture(random: np.random.Generator) -> bytes:
    """784 pixels with ink in the middle that no other picture has."""
    image = np.zeros((28, 28), np.uint8)
    image[8:20, 10:18] = random.integers(128, 256, (12, 8))
    return image.tobytes()


def ink(body: bytes) -> bytes:
    """Part of the picture's ink, as any packing keeps it."""
    return bytes(value for value in body if value)[16:48]


def _fetch(ports: Sequence[int], turn: int, body: bytes) -> tuple[int, bool]:
    """The status of a record that is asked for by its id, and whether a list had it (True if none was asked for)."""
    identifier = _post(ports, turn, body)
    other = ports[(turn + 1) % len(ports)]
    listed = True
    if turn % LISTED_EVERY == 0:
        _, page = _ask(other, "GET", "/spikes?limit=200")
        listed = identifier in {one["id"] for one in json.loads(page)["requests"]}
    return _ask(other, "GET", f"/spikes/{identifier}")[0], listed


def _forget(ports: Sequence[int], turn: int, body: bytes) -> tuple[str, int]:
    """The id of a record, and the status of its deletion."""
    identifier = _post(ports, turn, body)
    return identifier, _ask(ports[(turn + 1) % len(ports)], "DELETE", f"/spikes/{identifier}")[0]


def _post(ports: Sequence[int], turn: int, body: bytes) -> str:
    status, answer = _ask(ports[turn % len(ports)], "POST", "/classify", body)
    if status != 200:
        raise RuntimeError(f"expected 200, got {status}: {answer[:200]!r}")
    return str(json.loads(answer)["id"])


def _ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of an answer, on a connection of its own: any of the workers may take it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        headers = {"Content-Type": "application/octet-stream"} if body else {}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def judged(where: str, found: Found, notes: tuple[str, ...] = ()) -> Row:
    """The row of one set-up."""
    claims = [
        Claim(
            "fetched", f"{found.not_fetched} of {found.asked} were not there", "all", not found.not_fetched
        ),
        Claim("listed", f"{found.not_listed} were not in the list", "all", not found.not_listed),
        Claim(
            "forgotten",
            f"{found.not_forgotten} of {found.asked} deletions failed, {found.there_again} were there again",
            "all, for good",
            not (found.not_forgotten or found.there_again),
        ),
        Claim("until", f"{found.left_by_time} of {UNTIL} were left", "none", not found.left_by_time),
    ]
    if found.on_disk is not None:
        claims.append(
            Claim("on disk", f"bytes of {found.on_disk} forgotten pictures", "none", not found.on_disk)
        )
    return Row(
        f"fetch and forget at once, {where}",
        tuple(claims),
        (f"{CLIENTS} clients", *notes),
        {"found": vars(found)},
    )
