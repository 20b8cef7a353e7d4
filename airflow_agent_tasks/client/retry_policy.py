"""When to retry a request: one policy for both clients."""

from __future__ import annotations

import time
from typing import Any

from tenacity import RetryCallState, stop_after_attempt, stop_before_delay, wait_random_exponential

from airflow_agent_tasks.errors import AgentTaskError, AgentTaskUnavailableError, AgentTaskUncertainError
from airflow_agent_tasks.services.http import MAY_HAVE_ACTED, Request, Response
from airflow_agent_tasks.services.retry_advice import read_retry_after
from airflow_agent_tasks.services.status_meaning import Executed, StatusMeaning, read_meaning

ATTEMPTS = 5
#: Seconds after which no further attempt starts; the caller handles a longer ``Retry-After``.
LONGEST_RETRYING = 60.0

_backoff = wait_random_exponential(multiplier=0.5, max=8)


class RetryPolicy:
    """
    The retries of one request, for tenacity.

    Retries what ``services.status_meaning`` calls transient, and failed connections. A request that may have
    been carried out is retried only if it is repeatable. One policy object serves one request.

    :param request: The request to send.
    :param retries: False for a single attempt, if the caller waits and retries.
    """

    def __init__(self, request: Request, *, retries: bool = True) -> None:
        self.request = request
        self._attempts = ATTEMPTS if retries else 1
        self._is_uncertain = False

    def options(self) -> dict[str, Any]:
        """Return the arguments for ``tenacity.Retrying`` and ``tenacity.AsyncRetrying``."""
        return {
            "stop": stop_after_attempt(self._attempts) | stop_before_delay(LONGEST_RETRYING),
            "wait": self._wait,
            "retry": self._is_worth_another_try,
            "retry_error_callback": _last_outcome,
        }

    def finish(self, response: Response) -> Response:
        """
        Return the last response.

        :raises AgentTaskUncertainError: if it says "not executed", but an earlier attempt may have been.
        """
        # A response that is uncertain itself is returned: the dialect describes it.
        if self._is_uncertain and read_meaning(response.status).executed is Executed.NO:
            raise AgentTaskUncertainError(
                f"Could not {self.request.purpose}: an earlier attempt got no clear response, and the last "
                f"one was rejected with {response.status}. {MAY_HAVE_ACTED}",
                status=response.status,
            )
        return response

    def finish_with_error(self, error: AgentTaskError) -> None:
        """Raise AgentTaskUncertainError if an earlier attempt may have been carried out."""
        if self._is_uncertain and not isinstance(error, AgentTaskUncertainError):
            message = f"{error} An earlier attempt got no clear response. {MAY_HAVE_ACTED}"
            raise AgentTaskUncertainError(message, status=getattr(error, "status", None)) from None

    def _is_worth_another_try(self, state: RetryCallState) -> bool:
        meaning = _read_outcome(_outcome(state))
        may_have_acted = meaning.executed is Executed.MAYBE
        self._is_uncertain = self._is_uncertain or (self.request.has_effect and may_have_acted)
        return meaning.is_transient and (self.request.repeatable or not may_have_acted)

    def _wait(self, state: RetryCallState) -> float:
        outcome = _outcome(state)
        asked = read_retry_after(outcome.headers, now=time.time()) if isinstance(outcome, Response) else None
        return max(_backoff(state), asked or 0.0)


def _outcome(state: RetryCallState) -> Response | BaseException | None:
    if state.outcome is None:
        return None
    return state.outcome.exception() or state.outcome.result()


def _read_outcome(outcome: Response | BaseException | None) -> StatusMeaning:
    if isinstance(outcome, Response):
        return read_meaning(outcome.status)
    if isinstance(outcome, AgentTaskUncertainError):
        return StatusMeaning(Executed.MAYBE, is_transient=True)
    # The request was not sent, or has no effect.
    return StatusMeaning(Executed.NO, is_transient=isinstance(outcome, AgentTaskUnavailableError))


def _last_outcome(state: RetryCallState) -> Any:
    return state.outcome.result() if state.outcome else None
