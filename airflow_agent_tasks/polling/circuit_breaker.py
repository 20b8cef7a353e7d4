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
from airflow_agent_tasks.lifecycle.wait_policy import LONGEST_WAIT

#: Failures with no answer in between, and seconds since the first of them, after which it is the service that
#: fails. By their number alone, a few agent tasks that always fail would silence thousands that are answered.
FAILURES_IN_A_ROW = 3
SECONDS_UNANSWERED = 5.0
#: Seconds between two who try whether it answers again; many do, since the first may be those that fail.
PROBE_PAUSE = 1.0
#: Seconds for which a key that was refused is not shown again, by one task and then by the worker that hears
#: of its end: Lightcone blocks an address after ten times within ten minutes.
KEY_PAUSE = 180.0


class Silence:
    """
    Decides whether a service may be asked just now, for all the tasks that wait at one connection.

    It begins when the service asks to be left alone (429, ``Retry-After``), refuses the key (401), or answers
    nobody. After a while one asks, and the others go on when that one was answered. The caller passes the
    time, in seconds on a clock that never goes back.

    :param untried_since: Begin with a silence that one may break at once, because the address or the key is
        new; None (default) to let everybody ask.
    :param draw: Returns a number from 0 to 1: those who have to wait are told different moments, so that they
        do not all come back in the same one.
    """

    def __init__(
        self, *, untried_since: float | None = None, draw: Callable[[], float] = random.random
    ) -> None:
        self._draw = draw
        self._error: AgentTaskError | None = None
        #: Answers to what was asked since then end the silence; since when its present round lasts.
        self._silent_since = self._begun_at = self._until = untried_since or 0.0
        if untried_since is not None:
            self._error = AgentTaskUnavailableError("It was not asked yet.")
        self._failed_first_at = self._failed_last_at = 0.0
        self._failures = self._rounds = 0

    def is_kept(self, *, now: float) -> bool:
        """Tell whether nobody may ask."""
        return self._error is not None and now < self._until

    @property
    def is_about_key(self) -> bool:
        """Tell whether it is the key that was refused, which nobody may show then, to whatever end."""
        return is_key_refused(self._error)

    def enter(self, *, now: float) -> bool:
        """Tell whether somebody who is about to ask may do so."""
        if self.is_kept(now=now):
            return False
        if self._error is not None:
            # He asks for all. Should he never be heard of again, another one follows.
            self._until = now + self._pause()
        return True

    def refuse(self, *, now: float) -> AgentTaskHeldBackError:
        """Return the error for somebody who may not ask; it tells nothing of the task that was refused."""
        status = getattr(self._error, "status", None)
        hint = (
            "Check the key in the connection's password field: it was refused (401)."
            if self.is_about_key
            else f"It answered {status} last."
            if status
            else ""
        )
        return AgentTaskHeldBackError(
            "The service is left alone until one of the tasks that wait at this connection was answered. "
            f"{hint}".rstrip(),
            status=status,
            # Not for all of a long silence: it ends early when somebody changes the connection.
            retry_after=min(LONGEST_WAIT, max(0.0, self._until - now))
            + self._draw() * min(LONGEST_WAIT, self._until - self._begun_at),
            lasted=self._failed_last_at - self._failed_first_at,
        )

    def on_error(self, error: AgentTaskError, *, asked_at: float, now: float) -> bool:
        """
        Take note of a request that failed; what says something of its own task only is an answer.

        :return: False for one of the many that were under way when the first of them failed.
        """
        is_news = self._error is None or asked_at >= self._begun_at
        if not (error.is_transient or is_key_refused(error)):
            self.on_answer(asked_at=asked_at)
            return is_news
        if not self._failures:
            self._failed_first_at = now
        self._failed_last_at = now
        self._failures += 1
        asked_for = error.retry_after if isinstance(error, AgentTaskUnavailableError) else None
        is_told = (
            is_key_refused(error) or asked_for is not None or isinstance(error, AgentTaskRateLimitedError)
        )
        if is_told or self._is_unanswered(now):
            if is_news:
                if is_told or self._error is None:
                    # Else an answer that takes longer than the next failure would never count.
                    self._silent_since = now
                self._rounds += 1
                self._error, self._begun_at = error, now
            self._until = max(self._until, now + max(self._pause(), asked_for or 0.0))
        return is_news

    def on_answer(self, *, asked_at: float) -> None:
        """Take note of an answer; one to a question from before the silence does not end it."""
        if self._error is None or asked_at >= self._silent_since:
            self._error, self._until = None, 0.0
            self._failures = self._rounds = 0

    def _is_unanswered(self, now: float) -> bool:
        lasted = now - self._failed_first_at
        return self._failures >= FAILURES_IN_A_ROW and lasted >= SECONDS_UNANSWERED

    def _pause(self) -> float:
        if self.is_about_key:
            return KEY_PAUSE
        if isinstance(self._error, AgentTaskRateLimitedError):
            return min(LONGEST_WAIT, 2.0 ** min(self._rounds - 1, 10))
        return PROBE_PAUSE


def is_key_refused(error: AgentTaskError | None) -> bool:
    """Tell whether a service does not know the key (401), which concerns everybody who shows it."""
    return isinstance(error, AgentTaskAuthenticationError) and error.status == 401
