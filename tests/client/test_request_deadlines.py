"""The deadlines of a triggerer's requests: one timer ends whichever of them takes too long."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Any

import pytest

from airflow_agent_tasks.client.request_deadlines import RequestDeadlines

#: Seconds. Nothing ends by itself before the first, and nothing that has to end takes as long as the second.
SHORT, LONG = 0.05, 30.0


async def wait_forever(deadlines: RequestDeadlines) -> None:
    with deadlines.begin():
        await asyncio.Event().wait()


def count_timers() -> int:
    """Return how many timers the running event loop has."""
    loop: Any = asyncio.get_running_loop()
    return sum(not timer.cancelled() for timer in loop._scheduled)


def test_each_request_that_takes_too_long_ends_with_a_timeout() -> None:
    async def run() -> list[Any]:
        deadlines = RequestDeadlines(SHORT)
        first = [asyncio.create_task(wait_forever(deadlines)) for _ in range(3)]
        await asyncio.wait(first)
        later = asyncio.create_task(wait_forever(deadlines))
        return await asyncio.gather(*first, later, return_exceptions=True)

    assert [type(outcome) for outcome in asyncio.run(run())] == [asyncio.TimeoutError] * 4


def test_requests_that_began_later_are_due_later() -> None:
    ended = []

    async def note_end(deadlines: RequestDeadlines, number: int) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await wait_forever(deadlines)
        ended.append((number, asyncio.get_running_loop().time()))

    async def run() -> float:
        deadlines = RequestDeadlines(SHORT)
        first = asyncio.create_task(note_end(deadlines, 1))
        await asyncio.sleep(SHORT / 2)
        began = asyncio.get_running_loop().time()
        await asyncio.gather(first, note_end(deadlines, 2))
        return began

    began = asyncio.run(run())
    assert [number for number, _ in ended] == [1, 2]
    assert ended[1][1] >= began + SHORT


def test_all_requests_share_one_timer() -> None:
    async def run() -> None:
        deadlines = RequestDeadlines(LONG)
        tasks = [asyncio.create_task(wait_forever(deadlines)) for _ in range(100)]
        await asyncio.sleep(0)
        assert count_timers() == 1
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        deadlines.close()
        assert count_timers() == 0

    asyncio.run(run())


def test_a_request_that_has_ended_is_not_due_any_more() -> None:
    async def run() -> None:
        deadlines = RequestDeadlines(SHORT)
        with deadlines.begin():
            await asyncio.sleep(0)
        # The timer finds nothing.
        await asyncio.sleep(2 * SHORT)
        assert count_timers() == 0
        with deadlines.begin():
            assert count_timers() == 1
        deadlines.close()

    asyncio.run(run())


def test_a_cancellation_from_outside_is_no_timeout() -> None:
    async def run() -> asyncio.Task[None]:
        task = asyncio.create_task(wait_forever(RequestDeadlines(LONG)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task

    assert asyncio.run(run()).cancelled()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 does not count cancellations")
def test_a_cancellation_from_outside_wins_over_a_timeout_at_the_same_time() -> None:
    async def run() -> asyncio.Task[None]:
        deadlines = RequestDeadlines(LONG)
        task = asyncio.create_task(wait_forever(deadlines))
        await asyncio.sleep(0)
        (deadline,) = deadlines._due
        deadline.expire()
        task.cancel()
        await asyncio.wait([task])
        return task

    assert asyncio.run(run()).cancelled()


def test_a_result_that_comes_at_the_last_moment_is_kept() -> None:
    async def finish(deadlines: RequestDeadlines) -> str:
        with deadlines.begin():
            # As asyncio.wait_for of Python 3.10 and 3.11 does with a result that is there already.
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            result = "result"
        await asyncio.sleep(0)
        return result

    assert asyncio.run(finish(RequestDeadlines(SHORT))) == "result"


def test_an_expired_request_is_cancelled_once() -> None:
    async def linger(deadlines: RequestDeadlines) -> None:
        with deadlines.begin():
            try:
                await asyncio.Event().wait()
            finally:
                (deadline,) = deadlines._due
                deadline.expire()
                await asyncio.sleep(0)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(linger(RequestDeadlines(SHORT)))


def test_a_request_outside_a_task_is_refused() -> None:
    async def enter() -> None:
        refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def call() -> None:
            with pytest.raises(RuntimeError, match="needs an asyncio task"), RequestDeadlines(LONG).begin():
                pass
            refused.set_result("refused")

        asyncio.get_running_loop().call_soon(call)
        assert await refused == "refused"

    asyncio.run(enter())
