"""The rate at which all waiting tasks of an event loop together write to their logs, or to XCom."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from weakref import WeakKeyDictionary

from airflow_agent_tasks.polling.shared_poller import count_waiting_tasks

#: The writes of this many seconds may come at once, after a quiet time.
BURST_SECONDS = 1.0


class LoopRate:
    """
    A rate limit per event loop, over all connections; the ``SharedRate`` of a triggerer's tasks.

    Without it, tasks that have been quiet for long would all write in the moment when something happens to
    all of them.

    :param per_second: Writes per second of all tasks together.
    :param clock: Returns the monotonic time in seconds.
    """

    def __init__(self, per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second = per_second
        self._clock = clock
        #: When the writes so far are paid for.
        self._paid_at: WeakKeyDictionary[asyncio.AbstractEventLoop, float] = WeakKeyDictionary()

    def count_tasks(self) -> int:
        """Return how many tasks wait in this event loop."""
        return count_waiting_tasks()

    def take(self) -> bool:
        """Return whether the rate allows one more write now; if so, count it."""
        loop, now = asyncio.get_running_loop(), self._clock()
        paid_at = max(now, self._paid_at.get(loop, now))
        if paid_at - now >= BURST_SECONDS:
            return False
        self._paid_at[loop] = paid_at + 1.0 / self.per_second
        return True
