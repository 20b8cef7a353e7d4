"""The shared poller: one connection lookup, session, rate limit and circuit breaker for many tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.configuration.options import MAX_CONCURRENT_POLLS
from airflow_agent_tasks.configuration.reader import read_integer
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.polling.circuit_breaker import CircuitBreaker, is_key_rejected
from airflow_agent_tasks.polling.connection_cache import CachedHook
from airflow_agent_tasks.polling.poll_metrics import PollMetrics
from airflow_agent_tasks.polling.rate_limiter import RateLimiter


class SharedPoller:
    """
    Polls all waiting agent tasks of one event loop and connection.

    Get it through ``use_poller``.

    :param conn_id: The Airflow connection.
    :param clock: Returns the monotonic time in seconds.
    """

    def __init__(self, conn_id: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._cached_hook = CachedHook(conn_id, clock=clock)
        self._hook: AgentTaskHook | None = None
        self._limiter = RateLimiter(read_integer(MAX_CONCURRENT_POLLS))
        self._breaker = CircuitBreaker()
        #: Held while one user of this poller gets the state of its task instance from Airflow.
        self.state_lock = asyncio.Lock()
        self.metrics = PollMetrics(conn_id)

    async def get_task(self, task_id: str, agent_id: str | None, *, since: float = 0.0) -> AgentTask:
        """
        Return an agent task's state, without its result.

        :param since: When this task was last checked, on the monotonic clock. If the connection's
            ``requests_per_second`` makes tasks wait, the one checked least recently goes first.
        :raises AgentTaskCircuitOpenError: while the circuit breaker is open; no request is sent.
        :raises AgentTaskError: for the errors of ``AgentTaskHook.get_task`` and of the connection lookup.
        """
        # Before acquire, because the connection sets the rate, and a rejected request needs no slot.
        await self._get_hook()
        now = self._clock()
        if self._breaker.is_open(now=now):
            raise self._breaker.build_rejection(now=now)
        await self._limiter.acquire(since)
        try:
            return await self._get_task_now(task_id, agent_id)
        finally:
            self._limiter.release()

    async def stop_task(self, task_id: str, agent_id: str | None) -> AgentTask:
        """
        Stop an agent task, ahead of all status checks and even while the circuit breaker is open.

        :raises AgentTaskCircuitOpenError: if it is open because the service rejected the key.
        """
        await self._get_hook()
        # Only to respect the rate: the retries of a stop may take a minute, during which others need the
        # slot.
        await self._limiter.acquire(0.0)
        self._limiter.release()
        # Again, because the client is closed if the connection has changed in the meantime.
        hook = await self._get_hook()
        now = self._clock()
        if self._breaker.is_key_rejected and self._breaker.is_open(now=now):
            raise self._breaker.build_rejection(now=now)
        return await hook.astop_task(task_id, agent_id)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._cached_hook.aclose()
        self.metrics.close()

    async def _get_task_now(self, task_id: str, agent_id: str | None) -> AgentTask:
        hook = await self._get_hook()
        breaker, sent_at = self._breaker, self._clock()
        if not breaker.admit(now=sent_at):
            self._limiter.refund()
            raise breaker.build_rejection(now=sent_at)
        self.metrics.polls += 1
        try:
            task = await hook.aget_task(task_id, agent_id)
        except AgentTaskError as error:
            was_closed = breaker.is_closed
            is_news = breaker.on_error(error, sent_at=sent_at, now=self._clock())
            self.metrics.poll_errors += 1
            self.metrics.opened_circuits += was_closed and not breaker.is_closed
            if not is_key_rejected(error):
                raise
            if not is_news:
                raise breaker.build_rejection(now=self._clock()) from None
            # The key may have changed since the last lookup.
            await self._cached_hook.refresh()
            await self._get_hook()
            if self._breaker is breaker:
                raise
        else:
            breaker.on_response(sent_at=sent_at)
            return task
        return await self._get_task_now(task_id, agent_id)

    async def _get_hook(self) -> AgentTaskHook:
        hook = self._cached_hook.get_fresh() or await self._cached_hook.get()
        if hook is not self._hook:
            if self._hook is None:
                self._limiter.set_rate(hook.settings.requests_per_second)
            elif hook.settings != self._hook.settings:
                # The breaker's state belongs to another key or another host.
                self._breaker = CircuitBreaker(half_open_since=self._clock())
                self._limiter.set_rate(hook.settings.requests_per_second)
            self._hook = hook
            self.metrics.service = hook.dialect.service
        return hook


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedPoller]] = WeakKeyDictionary()


def count_waiting_tasks() -> int:
    """Return how many tasks wait in this event loop, over all connections."""
    return sum(poller.metrics.waiting for poller in _pollers.get(asyncio.get_running_loop(), {}).values())


@asynccontextmanager
async def use_poller(conn_id: str) -> AsyncIterator[SharedPoller]:
    """
    Share the poller of this event loop and connection; its connections close after the last user.

    Leave the block before a trigger yields its event: Airflow cancels anything that it awaits afterwards.
    """
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    if conn_id not in pollers:
        pollers[conn_id] = SharedPoller(conn_id)
        pollers[conn_id].metrics.start()
    poller = pollers[conn_id]
    poller.metrics.waiting += 1
    try:
        yield poller
    finally:
        poller.metrics.waiting -= 1
        if not poller.metrics.waiting:
            # This also discards the state of its circuit breaker.
            del pollers[conn_id]
            await poller.aclose()
