"""Admission: who works, who waits, who is refused, and who gives up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from spikehead.errors import Problem
from spikehead.web.guard.admission import Admission


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_so_many_work_so_many_wait_and_the_rest_is_refused() -> None:
    async def work() -> None:
        admission = Admission(2, 1)
        assert admission.enter() is None
        assert admission.enter() is None
        waiting = admission.enter()
        assert waiting is not None and not waiting.done()
        assert (admission.working, admission.waiting) == (2, 1)
        for refuse in (admission.enter, admission.check):
            with pytest.raises(Problem) as refusal:
                refuse()
            assert (refusal.value.kind, refusal.value.status, refusal.value.retry_after) == (
                "overloaded",
                429,
                1,
            )
            assert refusal.value.expected == "at most 2 requests at a time and 1 waiting"

    run(work())


def test_first_come_first_served() -> None:
    async def work() -> None:
        admission = Admission(1, 3)
        admission.enter()
        waiting = [admission.enter() for _ in range(3)]
        for number in range(3):
            admission.leave()
            assert [one is not None and one.done() for one in waiting] == [i <= number for i in range(3)]
            assert admission.working == 1  # the place was handed over
        admission.leave()
        assert (admission.working, admission.waiting) == (0, 0)
        assert admission.enter() is None

    run(work())


def test_who_gives_up_keeps_no_place() -> None:
    async def work() -> None:
        admission = Admission(1, 2)
        admission.enter()
        first, second = admission.enter(), admission.enter()
        assert first is not None and second is not None
        admission.give_up(first)
        admission.leave()
        assert second.done() and admission.working == 1
        admission.give_up(second)  # in the very moment that its turn came
        assert (admission.working, admission.waiting) == (0, 0)

    run(work())


def test_nobody_overtakes_those_that_wait() -> None:
    async def work() -> None:
        admission = Admission(1, 5)
        admission.enter()
        waiting = admission.enter()
        admission.leave()  # hands over: nothing is free for who comes now
        assert waiting is not None and waiting.done()
        assert admission.enter() is not None

    run(work())


def test_light_requests_of_one_turn_of_the_loop_are_bounded() -> None:
    async def work() -> None:
        admission = Admission(1, 2)
        for _ in range(2):
            for _ in range(3):
                admission.take_light()
            with pytest.raises(Problem, match="The service is overloaded"):
                admission.take_light()
            await asyncio.sleep(0)  # the next turn begins anew

    run(work())
