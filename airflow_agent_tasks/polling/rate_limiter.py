"""Limits how many requests a connection sends at once and per second."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class RateLimiter:
    """
    A priority semaphore with a rate limit: the task checked least recently goes first.

    :param max_concurrent: Maximum number of requests in flight.
    """

    def __init__(self, max_concurrent: int) -> None:
        self._max_concurrent = max_concurrent
        self._interval = 0.0
        self._in_flight = 0
        self._next_at = 0.0
        self._waiters: list[tuple[float, int, asyncio.Future[None]]] = []
        self._number = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def set_rate(self, per_second: float | None) -> None:
        """Admit at most this many requests per second from now on; None for no limit."""
        self._interval = 1.0 / per_second if per_second else 0.0
        self.refund()

    def refund(self) -> None:
        """Admit the next waiter at once, because the last admitted request was not sent."""
        if self._timer:
            self._timer.cancel()
        self._on_time()

    async def acquire(self, since: float) -> None:
        """
        Wait until a request may be sent; call ``release`` afterwards.

        :param since: When the caller last sent a request, on a clock that all callers share; the earliest is
            admitted first.
        """
        if not (self._interval or self._waiters) and self._in_flight < self._max_concurrent:
            self._in_flight += 1
            return
        admission = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (since, next(self._number), admission))
        self._admit()
        try:
            await admission
        except asyncio.CancelledError:
            if admission.done() and not admission.cancelled():  # admitted and cancelled at the same time
                self.release()
            raise

    def release(self) -> None:
        """End a request."""
        self._in_flight -= 1
        if self._waiters:
            self._admit()

    def _admit(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiters and self._in_flight < self._max_concurrent and self._timer is None:
            now = loop.time()
            if self._next_at > now:
                self._timer = loop.call_at(self._next_at, self._on_time)
                return
            _, _, admission = heapq.heappop(self._waiters)
            if not admission.done():
                admission.set_result(None)
                self._in_flight += 1
                self._next_at = now + self._interval

    def _on_time(self) -> None:
        self._timer = None
        # A timer may fire early by up to the clock's resolution, and would then be set again and again.
        self._next_at = 0.0
        self._admit()
