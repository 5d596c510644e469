"""The clock by which records are too old: jumps ahead are doubted for an hour, all else is believed."""

from __future__ import annotations

import logging

import pytest
from spikehead.records.clock import DOUBT_SECONDS, JUMP_SECONDS, Clock


class Time:
    """A clock that people set, and one that nobody does."""

    def __init__(self) -> None:
        self.wall, self.elapsed = 1_000_000.0, 50.0
        self.clock = Clock(lambda: self.wall, lambda: self.elapsed)

    def goes_on(self, seconds: float, ahead: float = 0.0) -> float:
        """Tell the clock after so many seconds, in which it was set ahead by so many more."""
        self.wall += seconds + ahead
        self.elapsed += seconds
        return self.clock.now()


def test_time_goes_on() -> None:
    assert Time().goes_on(86_400.0) == 1_086_400.0


def test_a_clock_that_is_set_back_is_believed_at_once() -> None:
    assert Time().goes_on(10.0, ahead=-5_000.0) == 995_010.0


def test_a_small_correction_is_believed() -> None:
    assert Time().goes_on(10.0, ahead=JUMP_SECONDS) == 1_000_010.0 + JUMP_SECONDS


def test_a_jump_ahead_is_doubted_for_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    time = Time()
    with caplog.at_level(logging.WARNING):
        assert time.goes_on(10.0, ahead=JUMP_SECONDS + 1) == 1_000_010.0
        assert time.goes_on(DOUBT_SECONDS - 1) == 1_000_010.0 + DOUBT_SECONDS - 1
    assert caplog.messages == [
        "the clock has jumped ahead by 61 seconds: for an hour, the ages of records ignore the jump"
    ]
    assert time.goes_on(1.0) == 1_000_010.0 + DOUBT_SECONDS + JUMP_SECONDS + 1


def test_a_jump_that_is_taken_back_leaves_nothing_behind() -> None:
    time = Time()
    time.goes_on(10.0, ahead=1e6)
    assert time.goes_on(10.0, ahead=-1e6) == 1_000_020.0
    assert time.goes_on(DOUBT_SECONDS, ahead=1e6) == 1_000_020.0 + DOUBT_SECONDS  # doubted anew
