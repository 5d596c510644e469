"""Behind PgBouncer in transaction mode, where each transaction may run on another connection of the server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from spikehead.records import Filter, Recorder, RecorderState, RecordPage, Store

from tests.service.records.conftest import own_database, shown
from tests.service.records.making import add_and_wait, numbers, record
from tests.service.serving import LONG, connects, eventually, started

PROGRAM = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")
pytestmark = pytest.mark.skipif(not PROGRAM, reason="needs PgBouncer (Debian: pgbouncer)")


@pytest.fixture
def pooled(tmp_path: Path) -> Iterator[str]:
    """URL of an empty database behind a pool of two connections."""
    assert PROGRAM is not None
    with own_database() as server:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
        where = server.host or str(server.query.get("host") or "127.0.0.1")
        options = f"host={where} port={server.port or 5432} user={server.username} dbname={server.database}"
        if server.password:
            options += f" password={server.password}"
        (tmp_path / "users").write_text(f'"{server.username}" ""\n')
        (tmp_path / "pgbouncer.ini").write_text(
            f"[databases]\npooled = {options}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
            f"unix_socket_dir =\nauth_type = trust\nauth_file = {tmp_path}/users\nlogfile = {tmp_path}/log\n"
            "pool_mode = transaction\ndefault_pool_size = 2\nserver_round_robin = 1\nmax_client_conn = 100\n"
        )
        command = [PROGRAM, "-q"]
        if os.getuid() == 0:  # it refuses to run as root
            for folder in (tmp_path, *list(tmp_path.parents)[:3]):
                folder.chmod(0o777)
            # the folder of the server's socket may be closed to all but its owner
            command += ["-u", Path(where).owner() if where.startswith("/") else "nobody"]
        with started([*command, str(tmp_path / "pgbouncer.ini")], stderr=subprocess.DEVNULL) as process:
            eventually(lambda: connects(port) or process.poll() is not None)
            assert process.poll() is None
            yield shown(server.set(host="127.0.0.1", port=port, database="pooled", query={}))


def test_records_are_written_and_read(pooled: str) -> None:
    """Many small groups, and readers beside them: each statement would be prepared, and missed, by the sixth time."""
    store = Store(pooled)
    recorder = Recorder(store, linger=0.0)

    def read(_: int) -> int:
        return len(store.page(Filter(), RecordPage(10))[0])

    with ThreadPoolExecutor(4) as readers:
        reading = readers.map(read, range(60))
        assert all(add_and_wait(recorder, [record(number)], LONG) for number in range(60))
        assert max(reading) <= 10
    assert recorder.state == RecorderState("ok", None, 0, 60, 0)
    assert len(numbers(store.page(Filter(), RecordPage(100))[0])) == 60
    assert store.delete(record(7).id) is True
    assert store.delete_until(record(30).time) == 29
    recorder.close(LONG)
    store.close()


def test_limits_are_of_a_transaction(pooled: str) -> None:
    """One that another client has made does not last, and ours holds for nobody else."""
    store = Store(pooled, patience=0.5)
    store.open()
    with store._database.reading.begin() as connection:
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == "500ms"
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar_one() == "30s"
        raw = connection.connection.driver_connection
        assert raw is not None
        assert raw.prepare_threshold is None
    with store._database.reading.connect() as connection:
        connection.connection.driver_connection.rollback()  # type: ignore[union-attr]
        cursor = connection.connection.cursor()
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",)
    store.close()
