"""The rate limiter: by itself, and with the requests of a shared poller."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from airflow_agent_tasks.polling.rate_limiter import RateLimiter
from tests.airflow.polling.poller_service import OK, with_poller
from tests.raw_server import Exchange


def test_a_slot_that_is_granted_to_a_cancelled_waiter_goes_to_the_next_one() -> None:
    async def run() -> None:
        limiter = RateLimiter(max_concurrent=1)
        await limiter.acquire(0.0)
        second = asyncio.create_task(limiter.acquire(0.0))
        await asyncio.sleep(0)
        limiter.release()
        second.cancel()
        await asyncio.wait([second])
        assert second.cancelled()
        await asyncio.wait_for(limiter.acquire(0.0), 5)

    asyncio.run(run())


def test_cancelled_waiters_are_skipped() -> None:
    async def run() -> None:
        limiter = RateLimiter(max_concurrent=1)
        await limiter.acquire(0.0)
        waiting = [asyncio.create_task(limiter.acquire(float(number))) for number in range(100)]
        await asyncio.sleep(0)
        *others, last = waiting
        for other in others:
            other.cancel()
        await asyncio.wait(others)
        limiter.release()
        await asyncio.wait_for(last, 5)

    asyncio.run(run())


@pytest.mark.usefixtures("nothing_is_left_open")
def test_the_rate_applies_to_all_tasks_and_from_the_first_request(serve: Any, connect: Any) -> None:
    server = serve(OK)
    connect(server, requests_per_second=20)

    async def work(poller: Any) -> float:
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*[poller.get_task("tsk_1", None) for _ in range(9)])
        return asyncio.get_running_loop().time() - began

    assert with_poller(work) >= 8 / 20 - 0.01
    assert len(server.requests) == 9


@pytest.mark.usefixtures("nothing_is_left_open")
def test_the_task_with_the_oldest_check_goes_first(serve: Any, connect: Any, monkeypatch: Any) -> None:
    may_answer = threading.Event()

    def answer_later(exchange: Exchange) -> None:
        may_answer.wait(10)
        exchange.send(OK)

    server = serve(answer_later, OK)
    connect(server)
    monkeypatch.setenv("AIRFLOW__AGENT_TASKS__MAX_CONCURRENT_POLLS", "1")

    async def work(poller: Any) -> None:
        first = asyncio.create_task(poller.get_task("first", None))
        await asyncio.to_thread(server.wait_until, lambda it: it.requests)
        since = [5.0, 3.0, 9.0, 1.0, 7.0]
        others = [asyncio.create_task(poller.get_task(f"tsk_{at:.0f}", None, since=at)) for at in since]
        await asyncio.sleep(0)
        may_answer.set()
        await asyncio.gather(first, *others)

    with_poller(work)
    checked = [received.target.rpartition("/")[2] for received in server.requests]
    assert checked == ["first", "tsk_1", "tsk_3", "tsk_5", "tsk_7", "tsk_9"]
