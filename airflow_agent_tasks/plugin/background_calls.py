"""
Calls functions in a few threads; a call can be repeated later without occupying a thread in the meantime.

The threads are daemons, and end when there is nothing to do. A call that hangs delays neither the exit of a
server nor the calls of another ``BackgroundCalls``.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

#: The name of all these threads.
THREAD_NAME = "agent-tasks-background"

#: Returns the seconds until it should be called again, or None if it is done.
Call = Callable[[], "float | None"]


class BackgroundCalls:
    """
    Calls functions in daemon threads, each as soon as it is due and a thread is free.

    :param threads: Maximum number of calls at the same time.
    """

    def __init__(self, threads: int) -> None:
        self._max_threads = threads
        self._threads = 0
        self._waiting: list[tuple[float, int, Call]] = []
        self._has_changed = threading.Condition()
        self._numbers = itertools.count()

    def start(self, call: Call) -> None:
        """Call a function as soon as possible, and again while it asks for that; returns at once."""
        with self._has_changed:
            self._put(call, 0.0)
            if self._threads == self._max_threads:
                return
            # Counted once it runs: a thread that cannot be started must not take the place of a later one.
            threading.Thread(target=self._work, name=THREAD_NAME, daemon=True).start()
            self._threads += 1

    def _put(self, call: Call, seconds: float) -> None:
        heapq.heappush(self._waiting, (time.monotonic() + seconds, next(self._numbers), call))
        self._has_changed.notify()

    def _take(self) -> Call | None:
        """Return the next call when it is due, or None if there is none: then the thread ends."""
        with self._has_changed:
            while self._waiting:
                seconds = self._waiting[0][0] - time.monotonic()
                if seconds <= 0:
                    return heapq.heappop(self._waiting)[2]
                self._has_changed.wait(seconds)
            # With the lock held: a call that is started from now on starts a thread.
            self._threads -= 1
            return None

    def _work(self) -> None:
        while call := self._take():
            try:
                seconds = call()
            except Exception:  # would end the thread, which later calls need
                log.exception("A background call failed")
                continue
            if seconds is not None:
                with self._has_changed:
                    self._put(call, seconds)
