"""Polls that come due while the event loop stands still: in a simulated time, nothing waits."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

import pytest

from airflow_agent_tasks.polling.poll_sleep import sleep_until_poll


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while nothing is due."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(PassingSelector(self))

    def time(self) -> float:
        return self.now


class PassingSelector(selectors.SelectSelector):
    """Lets the time pass instead of waiting for sockets."""

    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        self._loop.now += timeout or 0.0
        return []


def run(wait: Coroutine[Any, Any, Any]) -> Any:
    loop = SimulatedLoop()
    try:
        return loop.run_until_complete(wait)
    finally:
        loop.close()


async def wake(seconds: float, *, stall: float, tasks: int = 100) -> list[float]:
    """Let tasks sleep, and the loop stand still when their time is over; return when each woke up."""
    loop: Any = asyncio.get_running_loop()
    times = []

    async def sleep() -> None:
        await sleep_until_poll(seconds)
        times.append(loop.time())

    waiting = [asyncio.create_task(sleep()) for _ in range(tasks)]
    await asyncio.sleep(0)
    loop.now += seconds + stall
    await asyncio.gather(*waiting)
    return times


@pytest.mark.parametrize("stall", [0.0, 0.1])
def test_an_event_loop_that_is_hardly_late_polls_at_once(stall: float) -> None:
    assert set(run(wake(10.0, stall=stall))) == {10.0 + stall}


@pytest.mark.parametrize(
    ("seconds", "stall", "spread"), [(10.0, 0.7, 0.7), (10.0, 300.0, 10.0), (0.5, 300.0, 0.5)]
)
def test_polls_that_came_due_while_it_stood_still_are_spread(
    seconds: float, stall: float, spread: float
) -> None:
    later = [at - seconds - stall for at in run(wake(seconds, stall=stall))]
    assert len(set(later)) == 100
    assert 0.0 <= min(later) < 0.3 * spread
    assert 0.7 * spread < max(later) <= spread
