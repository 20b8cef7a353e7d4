"""When to send a request again: one policy for both clients."""

from __future__ import annotations

import time
from typing import Any

from tenacity import RetryCallState, stop_after_attempt, stop_before_delay, wait_random_exponential

from airflow_agent_tasks.errors import AgentTaskError, AgentTaskUnavailableError, AgentTaskUncertainError
from airflow_agent_tasks.services.http import MAY_HAVE_ACTED, Request, Response
from airflow_agent_tasks.services.retry_after import (
    REFUSED_FOR_NOW,
    is_transient_status,
    leaves_doubt,
    read_retry_after,
)

ATTEMPTS = 5
#: Seconds after which no further attempt is begun; a longer ``Retry-After`` is left to the caller.
LONGEST_RETRYING = 60.0

_backoff = wait_random_exponential(multiplier=0.5, max=8)


class SendPolicy:
    """
    The retries of one request, for tenacity.

    Sent again are 408, 429, 5xx, and connections that could not be made. What may have been carried out
    is sent again only where the request says that it may. One policy object serves one request.

    :param request: The request to send.
    :param retries: False for a single attempt, for callers that wait by themselves.
    """

    def __init__(self, request: Request, *, retries: bool = True) -> None:
        self.request = request
        self._attempts = ATTEMPTS if retries else 1
        self._doubt = False

    def options(self) -> dict[str, Any]:
        """Return the arguments for ``tenacity.Retrying`` and ``tenacity.AsyncRetrying``."""
        return {
            "stop": stop_after_attempt(self._attempts) | stop_before_delay(LONGEST_RETRYING),
            "wait": self._wait,
            "retry": self._is_worth_another_try,
            "retry_error_callback": _last_outcome,
        }

    def settle(self, response: Response) -> Response:
        """
        Return the last reply, unless an earlier attempt may have done what this one was refused.

        :raises AgentTaskUncertainError: in that case.
        """
        if self._doubt and not 200 <= response.status < 300:
            raise AgentTaskUncertainError(
                f"Could not {self.request.purpose}: one attempt was left without a clear answer, and the "
                f"last one was refused with {response.status}. {MAY_HAVE_ACTED}",
                status=response.status,
            )
        return response

    def settle_error(self, error: AgentTaskError) -> None:
        """Raise AgentTaskUncertainError where an earlier attempt may have been carried out."""
        if self._doubt and not isinstance(error, AgentTaskUncertainError):
            message = f"{error} An earlier attempt was left without a clear answer. {MAY_HAVE_ACTED}"
            raise AgentTaskUncertainError(message, status=getattr(error, "status", None)) from None

    def _is_worth_another_try(self, state: RetryCallState) -> bool:
        outcome = _outcome(state)
        if isinstance(outcome, Response):
            doubt = self.request.has_effect and leaves_doubt(outcome.status)
            transient = is_transient_status(outcome.status)
            harmless = outcome.status in REFUSED_FOR_NOW or outcome.status == 503
        else:
            doubt = isinstance(outcome, AgentTaskUncertainError)
            transient = doubt or isinstance(outcome, AgentTaskUnavailableError)
            harmless = not doubt
        self._doubt = self._doubt or doubt
        return transient and (harmless or self.request.repeatable)

    def _wait(self, state: RetryCallState) -> float:
        outcome = _outcome(state)
        asked = read_retry_after(outcome.headers, now=time.time()) if isinstance(outcome, Response) else None
        return max(_backoff(state), asked or 0.0)


def _outcome(state: RetryCallState) -> Response | BaseException | None:
    if state.outcome is None:
        return None
    return state.outcome.exception() or state.outcome.result()


def _last_outcome(state: RetryCallState) -> Any:
    return state.outcome.result() if state.outcome else None
