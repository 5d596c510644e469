"""Identifiers of requests."""

import threading

from service.records import Ids


def test_ids_grow_across_threads() -> None:
    source = Ids()
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.extend(source.new() for _ in range(500))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one[:16] for one in made}) == 2000
    assert all(len(one) == 24 and int(one, 16) >= 0 for one in made)
    own = [source.new() for _ in range(100)]
    assert own == sorted(own)


def test_some_ids_at_once_grow_too() -> None:
    source = Ids()
    made = [source.new(), *source.some(300), source.new()]
    assert made == sorted(set(made))
    assert all(len(one) == 24 for one in made)
