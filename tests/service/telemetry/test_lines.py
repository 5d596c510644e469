"""Lines come out in order and whole; a reader who is slow, stuck or gone stops nobody, and is told what is missing."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator

import pytest
from spikehead.telemetry.lines import MOST_BYTES, Lines

from tests.service.serving import LONG, ROOT, eventually

PIPE_BYTES = 4096
LINE = "x" * 99 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Make both ends of a pipe, with room for PIPE_BYTES."""
    if not hasattr(fcntl, "F_SETPIPE_SZ"):
        pytest.skip("needs a pipe whose size can be set, which Linux has")
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    yield reader, writer
    os.close(reader)  # a thread that is stuck is so no longer; `writer` stays open for it


def read(reader: int, lines: int) -> list[str]:
    """So many lines."""
    data = b""
    while data.count(b"\n") < lines:
        assert select.select([reader], [], [], LONG)[0], data
        data += os.read(reader, 65_536)
    return data.decode().splitlines()


def held(lines: Lines) -> threading.Event:
    """Have the thread that writes wait for this event, with no line in its hands."""
    waits, go_on = threading.Event(), threading.Event()

    def wait() -> str:
        waits.set()
        return str(go_on.wait(LONG))[:0]

    lines.put(wait)
    assert waits.wait(LONG)
    return go_on


def unread(reader: int) -> int:
    """Bytes that wait in a pipe."""
    return int.from_bytes(fcntl.ioctl(reader, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_in_order_from_many_threads(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    lines = Lines(writer)

    def log(name: int) -> None:
        for number in range(500):
            if number % 2:
                lines.put("{} {}\n".format, name, number)
            else:
                lines.put(str, f"{name} {number}\n")

    threads = [threading.Thread(target=log, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    said = [line.split() for line in read(reader, 2_000)]
    for name in range(4):
        assert [int(number) for who, number in said if int(who) == name] == list(range(500))
    assert lines.dropped == 0


def test_a_line_comes_soon_though_none_follows(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    Lines(writer).put(str, "alone\n")
    assert read(reader, 1) == ["alone"]


def test_many_in_a_write_none_cut_in_two() -> None:
    """A datagram is what one write was."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far:
        far.settimeout(LONG)
        lines = Lines(near.fileno())
        go_on = held(lines)  # until all are there
        for _ in range(100):
            lines.put(str, LINE)
        lines.put(str, "y" * 5_000 + "\n")
        lines.put(str, "last\n")
        go_on.set()
        writes = [far.recv(65_536) for _ in range(-(-100 // (MOST_BYTES // 100)) + 2)]
    assert all(write.endswith(b"\n") and len(write) <= MOST_BYTES for write in writes if b"y" not in write)
    assert [write[:1] for write in writes[-2:]] == [b"y", b"l"]
    assert b"".join(writes).count(LINE.encode()) == 100


def test_a_stuck_reader_stops_nobody_and_is_told(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    lines = Lines(writer, most_waiting=50)
    lines.put(str, "x" * 2 * PIPE_BYTES + "\n")
    eventually(lambda: unread(reader) == PIPE_BYTES)  # the thread is stuck in the middle of it
    for number in range(1_000):
        lines.put("{:05}{}".format, number, LINE)
    assert not lines.flush(0.05)
    assert lines.dropped == 950
    said = read(reader, 1 + 50 + 1)
    assert lines.flush(LONG)
    lines.put(str, "later\n")
    assert [*said[1:], *read(reader, 1)] == [
        *(f"{number:05}{LINE.strip()}" for number in range(50)), "950 log lines were dropped", "later",
    ]  # fmt: skip


def test_what_is_dropped_is_told_in_its_place(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    lines = Lines(writer, most_waiting=2)
    go_on = held(lines)
    for number in range(5):
        lines.put("{}\n".format, number)
    go_on.set()
    assert read(reader, 3) == ["0", "1", "3 log lines were dropped"]


def test_a_reader_that_has_gone_and_another_that_comes() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    lines = Lines(writer)
    for count in (1, 2, 3):
        lines.put(str, LINE)
        assert lines.flush(LONG)
        assert lines.dropped == count  # what tells of them is none of them
    reader, another = os.pipe()
    os.dup2(another, writer)
    lines.put(str, "back\n")
    assert lines.flush(LONG)
    assert read(reader, 2) == ["3 log lines were dropped", "back"]
    for descriptor in (reader, another, writer):
        os.close(descriptor)


def test_a_pipe_that_somebody_else_has_made_impatient(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    lines = Lines(writer)
    for number in range(200):
        lines.put("{:05}{}".format, number, LINE)
    assert not lines.flush(0.05)
    assert [int(line[:5]) for line in read(reader, 200)] == list(range(200))
    assert lines.dropped == 0


def test_a_line_that_cannot_be_made_takes_no_other_along(
    pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = pipe
    lines = Lines(writer)
    lines.put("{missing}".format, 1)
    lines.put(str, "lone \ud800\n")
    assert read(reader, 1) == ["lone \\ud800"]
    assert "a line of the log could not be rendered from (1,)" in caplog.text


def test_a_child_has_lines_of_its_own() -> None:
    """Those that wait in the parent are not its own, nor does the parent's thread live on in it."""
    code = """
import os, threading
from spikehead.telemetry.lines import Lines
lines, hold = Lines(2), threading.Event()
lines.put(lambda: str(hold.wait(99))[:0])
lines.put(str, "parent\\n")
child = os.fork()
if not child:
    lines.put(str, "child\\n")
    os._exit(0 if lines.flush(99) else 1)
assert os.waitpid(child, 0)[1] == 0
hold.set()
assert lines.flush(99)
"""
    run = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]  # of 3.12: that there is a thread
    said = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=LONG).stderr
    assert said == "child\nparent\n"


ENDS = {
    "raise SystemExit(3)": 3,
    "raise ValueError('why')": 1,
    "logs.flush(99); os._exit(4)": 4,
    "os.kill(os.getpid(), signal.SIGINT); time.sleep(99)": -2,
}


@pytest.mark.parametrize("end", ENDS)
def test_ends_lose_nothing(end: str) -> None:
    code = f"""
import logging, os, signal, time
from spikehead.telemetry import logs
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it
logs.configure("info", "console")
for number in range(500):
    logging.getLogger("spikehead").info("line %d", number)
{end}
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=LONG
    )
    said = [line.split("] ")[1] for line in ended.stderr.splitlines() if "[info" in line]
    assert ended.returncode == ENDS[end] and said == [f"line {number}" for number in range(500)]


def test_the_end_does_not_wait_for_a_stuck_reader(pipe: tuple[int, int]) -> None:
    code = """
from spikehead.telemetry import logs
logs.configure("info", "console")
for number in range(500):
    logs.LINES.put(str, "x" * 100)
"""
    _, writer = pipe
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=writer, timeout=LONG, check=True)


def test_a_closed_standard_error_is_no_other_file(tmp_path: str) -> None:
    """A file that is opened then gets its number."""
    code = f"""
import logging, os
file = os.open({str(tmp_path)!r} + "/records", os.O_RDWR | os.O_CREAT)
assert file == 2
from spikehead.telemetry import logs
logs.configure("info", "console")
logging.getLogger("spikehead").info("line")
assert logs.flush(99) and os.fstat(2).st_size == 0
"""
    shell = f'exec "{sys.executable}" -c "$CODE" 2>&-'
    subprocess.run(["sh", "-c", shell], cwd=ROOT, env={**os.environ, "CODE": code}, timeout=LONG, check=True)
