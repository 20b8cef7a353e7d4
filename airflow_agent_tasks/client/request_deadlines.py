"""
The deadlines of all requests that a triggerer's client has sent, with one timer for all of them.

aiohttp sets a timer for each request and cancels it a moment later. With thousands of polls per second, that
is a tenth of what a poll costs, and the cancelled timers make those of the sleeping tasks slower.
"""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType
from typing import Any


class RequestDeadlines:
    """
    Ends requests of one event loop that take too long. All get the same time, so the oldest is due first.

    :param timeout: Seconds for each request.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._due: dict[RequestDeadline, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> RequestDeadline:
        """Return the context manager for one request; it raises TimeoutError when the time is over."""
        return RequestDeadline(self)

    def close(self) -> None:
        """Stop the timer; no request is running any more."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def add(self, deadline: RequestDeadline) -> None:
        """Count the seconds of a request from now on."""
        loop = asyncio.get_running_loop()
        due = self._due[deadline] = loop.time() + self._timeout
        if self._timer is None:
            self._timer = loop.call_at(due, self._on_time)

    def remove(self, deadline: RequestDeadline) -> None:
        """Forget a request that has ended."""
        del self._due[deadline]

    def _on_time(self) -> None:
        self._timer, loop = None, asyncio.get_running_loop()
        for deadline, due in self._due.items():
            if due > loop.time():
                self._timer = loop.call_at(due, self._on_time)
                return
            deadline.expire()


class RequestDeadline:
    """The deadline of one request, which is sent by the task that enters it."""

    __slots__ = ("_cancelling", "_deadlines", "_is_expired", "_task")

    def __init__(self, deadlines: RequestDeadlines) -> None:
        self._deadlines = deadlines
        self._is_expired = False

    def __enter__(self) -> None:
        task: asyncio.Task[Any] | None = asyncio.current_task()
        if task is None:
            raise RuntimeError("A request needs an asyncio task.")
        self._task = task
        if sys.version_info >= (3, 11):
            self._cancelling = task.cancelling()
        self._deadlines.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._deadlines.remove(self)
        if not self._is_expired:
            return
        # As in asyncio.timeout: a cancellation from outside, at the same time, must not end as a timeout.
        if sys.version_info >= (3, 11) and self._task.uncancel() > self._cancelling:
            return
        if kind is asyncio.CancelledError:
            raise asyncio.TimeoutError from None

    def expire(self) -> None:
        """Cancel what the request waits for; once is enough."""
        if not self._is_expired:
            self._is_expired = True
            self._task.cancel()
