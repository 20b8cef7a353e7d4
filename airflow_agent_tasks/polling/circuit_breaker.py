"""The circuit breaker of one connection: it rejects all requests while the service cannot answer."""

from __future__ import annotations

import random
from collections.abc import Callable

from airflow_agent_tasks.errors import (
    AgentTaskAuthenticationError,
    AgentTaskCircuitOpenError,
    AgentTaskError,
    AgentTaskRateLimitedError,
    AgentTaskUnavailableError,
)
from airflow_agent_tasks.lifecycle.wait_policy import LONGEST_WAIT

#: The circuit opens after this many consecutive failures and this many seconds since the first of them. If
#: only the number counted, a few agent tasks that always fail would stop thousands that succeed.
FAILURE_THRESHOLD = 3
FAILURE_SECONDS = 5.0
#: Seconds between two probes. Probes repeat, because the first ones may be for tasks that always fail.
PROBE_INTERVAL = 1.0
#: Seconds between two probes with a key that the service rejected. Each counts twice, because the worker that
#: resumes after the failed wait sends the key too; Lightcone blocks an address after 10 within 10 minutes.
KEY_PROBE_INTERVAL = 180.0


class CircuitBreaker:
    """
    Decides whether a request may be sent now, for all agent tasks that are polled on one connection.

    - Closed: requests are sent.
    - Open: requests are rejected. The circuit opens on 429, on ``Retry-After``, on a rejected key (401), and
      when the service has sent no response at all for 5 seconds.
    - Half-open: one request is sent as a probe. Any response closes the circuit; without one, the next probe
      follows after a pause.

    The caller passes the time, in seconds on a monotonic clock.

    :param half_open_since: Start half-open at this time, because the address or the key is new; None
        (default) to start closed.
    :param draw: Returns a random number from 0 to 1, which spreads the retries of rejected requests.
    """

    def __init__(
        self, *, half_open_since: float | None = None, draw: Callable[[], float] = random.random
    ) -> None:
        self._draw = draw
        self._error: AgentTaskError | None = None
        #: Three points in time: when the circuit opened (only a response to a later request closes it), when
        #: the current round of failures began, and when the next probe is due.
        self._opened_at = self._round_began_at = self._probe_at = half_open_since or 0.0
        if half_open_since is not None:
            self._error = AgentTaskUnavailableError("Nothing has been sent yet.")
        self._first_failure_at = self._last_failure_at = 0.0
        self._failures = self._rounds = 0

    def is_open(self, *, now: float) -> bool:
        """Return whether all requests are rejected now."""
        return self._error is not None and now < self._probe_at

    @property
    def is_closed(self) -> bool:
        """Whether all requests may be sent: no failure has opened the circuit."""
        return self._error is None

    @property
    def is_key_rejected(self) -> bool:
        """Whether the circuit opened because of the key; then no request may send it."""
        return is_key_rejected(self._error)

    def admit(self, *, now: float) -> bool:
        """Return whether the caller may send its request now; while half-open, that request is the probe."""
        if self.is_open(now=now):
            return False
        if self._error is not None:
            # The probe may never report its outcome: another one follows.
            self._probe_at = now + self._pause()
        return True

    def build_rejection(self, *, now: float) -> AgentTaskCircuitOpenError:
        """Return the error for a rejected request; it says nothing about that agent task."""
        status = getattr(self._error, "status", None)
        hint = (
            "The service rejected the key (401): check the connection's password field."
            if self.is_key_rejected
            else f"The last response had status {status}."
            if status
            else ""
        )
        return AgentTaskCircuitOpenError(
            "Request not sent: the circuit breaker of this connection is open until the service responds to "
            f"a probe. {hint}".rstrip(),
            status=status,
            # Bounded, because a changed connection ends a long pause early.
            retry_after=min(LONGEST_WAIT, max(0.0, self._probe_at - now))
            + self._draw() * min(LONGEST_WAIT, self._probe_at - self._round_began_at),
            outage_seconds=self._last_failure_at - self._first_failure_at,
        )

    def on_error(self, error: AgentTaskError, *, sent_at: float, now: float) -> bool:
        """
        Record a failed request. An error that concerns one agent task only, such as 404, is counted
        as a response.

        :return: False if the request was already in flight when the first one failed.
        """
        is_news = self._error is None or sent_at >= self._round_began_at
        if not (error.is_transient or is_key_rejected(error)):
            self.on_response(sent_at=sent_at)
            return is_news
        if not self._failures:
            self._first_failure_at = now
        self._last_failure_at = now
        self._failures += 1
        asked_for = error.retry_after if isinstance(error, AgentTaskUnavailableError) else None
        opens_at_once = (
            is_key_rejected(error) or asked_for is not None or isinstance(error, AgentTaskRateLimitedError)
        )
        if opens_at_once or self._is_unanswered(now):
            if is_news:
                if opens_at_once or self._error is None:
                    # Only then; otherwise a response slower than the next failure would never close the
                    # circuit.
                    self._opened_at = now
                self._rounds += 1
                self._error, self._round_began_at = error, now
            self._probe_at = max(self._probe_at, now + max(self._pause(), asked_for or 0.0))
        return is_news

    def on_response(self, *, sent_at: float) -> None:
        """Record a response; one to a request from before the circuit opened does not close it."""
        if self._error is None or sent_at >= self._opened_at:
            self._error, self._probe_at = None, 0.0
            self._failures = self._rounds = 0

    def _is_unanswered(self, now: float) -> bool:
        return self._failures >= FAILURE_THRESHOLD and now - self._first_failure_at >= FAILURE_SECONDS

    def _pause(self) -> float:
        if self.is_key_rejected:
            return KEY_PROBE_INTERVAL
        if isinstance(self._error, AgentTaskRateLimitedError):
            return min(LONGEST_WAIT, 2.0 ** min(self._rounds - 1, 10))
        return PROBE_INTERVAL


def is_key_rejected(error: AgentTaskError | None) -> bool:
    """Return whether the service rejected the key itself (401), and so every request that carries it."""
    return isinstance(error, AgentTaskAuthenticationError) and error.status == 401
