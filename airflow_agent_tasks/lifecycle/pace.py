"""How often one of many waiting tasks may write to its log or to XCom."""

from __future__ import annotations

from typing import Protocol

#: Seconds between two writes of one task, at least.
WRITE_INTERVAL = 10.0


class SharedRate(Protocol):
    """The rate that all tasks of a process share."""

    #: Writes per second of all tasks together.
    per_second: float

    def count_tasks(self) -> int:
        """Return how many tasks share the rate."""

    def take(self) -> bool:
        """Return whether the rate allows one more write now; if so, count it."""


class Pace:
    """
    Spaces the writes of one task.

    After a write, a task waits ``WRITE_INTERVAL`` seconds or, if so many tasks wait that they would exceed
    the shared rate, as long as all of them need for one write each. So no task can keep another from writing,
    whatever the order in which they ask.

    :param rate: The rate that the task shares with others. Default None: it shares none.
    """

    def __init__(self, rate: SharedRate | None = None) -> None:
        self._rate = rate
        self._last: float | None = None

    def take(self, *, now: float, at_once: bool = False) -> bool:
        """
        Return whether the task may write now; if so, that counts as a write.

        :param now: The time in seconds, by a clock that may be set.
        :param at_once: True for a write that cannot wait. Default False.
        """
        if not at_once and not self._is_due(now):
            return False
        self._last = now
        return True

    def _is_due(self, now: float) -> bool:
        rate, seconds = self._rate, WRITE_INTERVAL
        if rate:
            seconds = max(seconds, rate.count_tasks() / rate.per_second)
        # A clock that was set back must not silence the task until it has caught up.
        is_too_soon = self._last is not None and 0.0 <= now - self._last < seconds
        return not is_too_soon and (rate is None or rate.take())
