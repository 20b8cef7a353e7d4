"""Whose turn it is, by itself; with requests, see the tests of the waiting place."""

from __future__ import annotations

import asyncio

from airflow_agent_tasks.polling.rate_limiter import Turns


def test_a_turn_that_comes_in_the_moment_of_giving_up_goes_to_the_next_one() -> None:
    async def run() -> None:
        turns = Turns(at_once=1)
        await turns.take(0.0)
        second = asyncio.create_task(turns.take(0.0))
        await asyncio.sleep(0)
        turns.give_back()
        second.cancel()
        await asyncio.wait([second])
        assert second.cancelled()
        await asyncio.wait_for(turns.take(0.0), 5)

    asyncio.run(run())


def test_those_who_gave_up_are_passed_over() -> None:
    async def run() -> None:
        turns = Turns(at_once=1)
        await turns.take(0.0)
        waiting = [asyncio.create_task(turns.take(float(number))) for number in range(100)]
        await asyncio.sleep(0)
        *others, last = waiting
        for other in others:
            other.cancel()
        await asyncio.wait(others)
        turns.give_back()
        await asyncio.wait_for(last, 5)

    asyncio.run(run())
