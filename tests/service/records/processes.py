"""Processes that tests start, and kill: `python -m tests.service.records.processes start|kill URL COUNT`.

They are forked from this one, which has no threads, so that each costs next to nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable

from spikehead.records import Recorder, Store, database
from sqlalchemy import Connection

from tests.service.records.making import add_and_wait, identifier, record
from tests.service.serving import LONG

LONGEST = 300
"""Seconds that a process may take."""


def fork(work: Callable[[], None]) -> int:
    """Id of a process that does this and ends."""
    child = os.fork()
    if child:
        return child
    status = 1
    signal.alarm(LONGEST)  # a process that hangs is ended, and seen
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 -- it must not go on as a second parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def start(url: str, count: int) -> None:
    """So many processes at once open the store, and write. Each is slow to act on what it has seen."""
    ready, go = os.pipe()
    look = database._is_current

    def slowly(connection: Connection) -> bool:
        current = look(connection)
        time.sleep(0.1)
        return current

    database._is_current = slowly

    def work(number: int) -> None:
        os.close(go)
        os.read(ready, 1)  # ends for all of them at the same time
        store = Store(url, patience=LONG)
        store.insert([record(number)])
        store.close()

    children = [fork(lambda number=number: work(number)) for number in range(count)]  # type: ignore[misc]
    os.close(go)
    sys.exit(any(os.waitpid(child, 0)[1] for child in children))


def kill(url: str, rounds: int) -> None:
    """A process after the other writes record upon record until it is killed. None that was acknowledged is lost."""
    acknowledged: list[int] = []
    for turn in range(rounds):
        reader, writer = os.pipe()

        def work(first: int = turn * 1_000_000, answers: int = writer) -> None:
            recorder = Recorder(Store(url, patience=LONG), linger=0.001)
            for number in range(first, first + 1_000_000, 2):
                recorder.add([record(number)])  # company that nobody waits for
                if add_and_wait(recorder, [record(number + 1)], LONG):
                    os.write(answers, b"%8d" % (number + 1))

        child = fork(work)
        os.close(writer)
        with os.fdopen(reader, "rb") as answers:
            for _ in range(1 + turn % 4):
                acknowledged.append(int(answers.read(8)))
            os.kill(child, signal.SIGKILL)
            rest = answers.read()  # said before it was killed
        acknowledged += [int(rest[i : i + 8]) for i in range(0, len(rest), 8)]
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        store = Store(url, patience=LONG)
        lost = [number for number in acknowledged if not known(store, number)]
        store.close()
        if lost:
            sys.exit(f"lost after round {turn}: {lost}")
    print(rounds, len(acknowledged))  # noqa: T201


def known(store: Store, number: int) -> bool:
    try:
        return store.get(identifier(number)).seed == number
    except KeyError:
        return False


if __name__ == "__main__":
    {"start": start, "kill": kill}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
