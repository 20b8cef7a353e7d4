"""The silence that all who wait at one connection keep while its service cannot answer."""

from __future__ import annotations

import random
from collections.abc import Callable

from airflow_agent_tasks.errors import (
    AgentTaskAuthenticationError,
    AgentTaskError,
    AgentTaskHeldBackError,
    AgentTaskRateLimitedError,
    AgentTaskUnavailableError,
)
from airflow_agent_tasks.protocol.polling import LONGEST_WAIT

#: Failures in a row, with no answer in between, after which it is the service that fails and not a request.
FAILURES_IN_A_ROW = 3
#: Seconds for which a key that was refused is not shown again: Lightcone blocks an address after ten times.
KEY_PAUSE = 60.0


class Silence:
    """
    Decides whether a service may be asked just now, for all the tasks that wait at one connection.

    It begins when the service asks to be left alone (429, ``Retry-After``), refuses the key (401), or fails
    several times in a row. After a while one asks, and the others go on when that one was answered.
    The caller passes the time, in seconds on a clock that never goes back.

    :param draw: Returns a number from 0 to 1: those who have to wait are told different moments, so that they
        do not all come back in the same one.
    """

    def __init__(self, *, draw: Callable[[], float] = random.random) -> None:
        self._draw = draw
        self._error: AgentTaskError | None = None
        self._begun_at = self._until = 0.0
        self._failed_first_at = self._failed_last_at = 0.0
        self._failures = self._rounds = 0

    def is_kept(self, *, now: float) -> bool:
        """Tell whether nobody may ask."""
        return self._error is not None and now < self._until

    def refuse(self, *, now: float) -> AgentTaskError | None:
        """Return the error for somebody who wants to ask; None where he may, and is about to."""
        error = self._error
        if error is None:
            return None
        if now >= self._until:
            # He asks for all. Should he never be heard of again, another one follows.
            self._until = now + self._pause()
            return None
        # The text tells nothing of the task that was refused: it is for the logs of all the others.
        status = getattr(error, "status", None)
        if isinstance(error, AgentTaskAuthenticationError):
            return AgentTaskAuthenticationError(
                "The service has just refused the key of this connection (401), so it is not shown again. "
                "Check the key in the connection's password field.",
                status=status,
            )
        left, length = self._until - now, self._until - self._begun_at
        return AgentTaskHeldBackError(
            "The service is left alone, since it does not answer the tasks that wait at this connection"
            + (f" (it answered {status} last)." if status else "."),
            status=status,
            retry_after=left + self._draw() * min(LONGEST_WAIT, length),
            lasted=self._failed_last_at - self._failed_first_at,
        )

    def on_error(self, error: AgentTaskError, *, asked_at: float, now: float) -> None:
        """Take note of a request that failed; what says something of its own task only is an answer."""
        is_key_refused = isinstance(error, AgentTaskAuthenticationError) and error.status == 401
        if not (error.is_transient or is_key_refused):
            self.on_answer(asked_at=asked_at)
            return
        if not self._failures:
            self._failed_first_at = now
        self._failed_last_at = now
        self._failures += 1
        asked_for = error.retry_after if isinstance(error, AgentTaskUnavailableError) else None
        is_told = is_key_refused or asked_for is not None or isinstance(error, AgentTaskRateLimitedError)
        if is_told or self._failures >= FAILURES_IN_A_ROW:
            if self._error is None or asked_at >= self._begun_at:
                self._rounds += 1
            self._error, self._begun_at = error, now
            self._until = max(self._until, now + max(self._pause(), asked_for or 0.0))

    def on_answer(self, *, asked_at: float) -> None:
        """Take note of an answer; one to a question from before the silence does not end it."""
        if self._error is None or asked_at >= self._begun_at:
            self._error, self._until = None, 0.0
            self._failures = self._rounds = 0

    def _pause(self) -> float:
        if isinstance(self._error, AgentTaskAuthenticationError):
            return KEY_PAUSE
        return min(LONGEST_WAIT, 2.0 ** min(self._rounds - 1, 10))
