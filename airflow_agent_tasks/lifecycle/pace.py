"""How often one of many waiting tasks may write to its log or to XCom."""

from __future__ import annotations

import random
from collections.abc import Callable

#: Seconds between two writes of one task, at least.
WRITE_INTERVAL = 10.0


class Pace:
    """
    Spaces the writes of one task so that all waiting tasks together stay below a rate.

    A task waits ``WRITE_INTERVAL`` seconds between two writes, or, if that many tasks would exceed the rate,
    its equal share of the time. Nothing is shared but the number of tasks, so no task can keep another from
    writing.

    :param per_second: Maximum number of writes per second of all tasks together. Default None: no maximum.
    :param since: When the wait began, in seconds. Default 0.0.
    :param draw: Returns a random number from 0 to 1: the part of its share that a task waits before its first
        write, if the share is above ``WRITE_INTERVAL``; otherwise all tasks of a restarted triggerer would
        write at once.
    """

    def __init__(
        self,
        per_second: float | None = None,
        *,
        since: float = 0.0,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._per_second = per_second
        self._last = since
        self._is_first = True
        self._share = draw()

    def take(self, *, now: float, waiting: int = 1, at_once: bool = False) -> bool:
        """
        Return whether the task may write now; if so, that counts as a write.

        :param now: The time in seconds, by the same clock as ``since``.
        :param waiting: The number of tasks that share the rate.
        :param at_once: True for a write that cannot wait.
        """
        seconds = max(WRITE_INTERVAL, waiting / self._per_second) if self._per_second else WRITE_INTERVAL
        if self._is_first:
            seconds = seconds * self._share if seconds > WRITE_INTERVAL else 0.0
        # A clock that was set back must not silence the task until it has caught up.
        if not at_once and 0.0 <= now - self._last < seconds:
            return False
        self._last, self._is_first = now, False
        return True
