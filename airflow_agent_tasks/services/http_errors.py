"""The errors of responses without an agent task; they name the service, the request and the response."""

from __future__ import annotations

from contextlib import suppress

from airflow_agent_tasks.errors import (
    AgentTaskAuthenticationError,
    AgentTaskNotFoundError,
    AgentTaskRateLimitedError,
    AgentTaskRejectedError,
    AgentTaskReplyError,
    AgentTaskRequestError,
    AgentTaskUnavailableError,
    AgentTaskUncertainError,
)
from airflow_agent_tasks.services import response_values
from airflow_agent_tasks.services.http import ID_RULE, MAY_HAVE_ACTED, Request, Response, decode
from airflow_agent_tasks.services.retry_advice import read_retry_after
from airflow_agent_tasks.services.status_meaning import Executed, read_meaning
from airflow_agent_tasks.text import shorten

#: A larger body contains no message that is worth showing.
MAX_ERROR_BYTES = 16 * 1024


def rejected(
    service: str, request: Request, response: Response, *, key_hint: str, now: float
) -> AgentTaskRequestError:
    """
    Return the error of a response whose HTTP status is not 2xx.

    :param service: The service's name in messages.
    :param request: The request.
    :param response: The response.
    :param key_hint: How to correct the key, for 401 and 403.
    :param now: The current time in seconds since 1970, to subtract from a ``Retry-After`` date.
    """
    status = response.status
    reason = f"Could not {request.purpose}: {service} answered {status} ({_describe_error(response)})."
    if status in (401, 403):
        return AgentTaskAuthenticationError(f"{reason} {key_hint}", status=status)
    if status == 404 and not request.has_effect and not _is_from_service(response):
        # A gateway's 404 must not mean that the agent is gone: a second one would be started.
        hint = "A 404 without a JSON object comes from something on the way: check the connection's host."
        return AgentTaskReplyError(f"{reason} {hint}", status=status, transient=True)
    if status == 404:
        hint = "Check the ids, and that the connection belongs to the account that owns them."
        return AgentTaskNotFoundError(f"{reason} {hint}", status=status)
    if 300 <= status < 400:
        reason += (
            " Redirects are not followed, because they would send the key elsewhere. "
            "Set the connection's host to the service's final URL."
        )
    meaning = read_meaning(status)
    if request.has_effect and meaning.executed is Executed.MAYBE:
        return _uncertain(reason, status)
    if meaning.is_transient:
        unavailable = AgentTaskRateLimitedError if status == 429 else AgentTaskUnavailableError
        return unavailable(reason, status=status, retry_after=read_retry_after(response.headers, now=now))
    return AgentTaskRejectedError(reason, status=status)


def unreadable(service: str, request: Request, response: Response, *, missing: str) -> AgentTaskRequestError:
    """Return the error of a 2xx response without JSON, an id or a status."""
    message = (
        f"Could not {request.purpose}: {service} answered {response.status} without {missing} "
        f"({_describe_body(response)})."
    )
    if request.has_effect:
        return _uncertain(message, response.status)
    return AgentTaskReplyError(message, status=response.status, transient=True)


def unusable_id(service: str, request: Request, response: Response, task_id: str) -> AgentTaskUncertainError:
    """Return the error of a start whose agent task has an id that no later request can use."""
    return _uncertain(
        f"Could not {request.purpose}: {service} answered {response.status} with the task_id "
        f"{shorten(repr(task_id), 60)} ({len(task_id)} characters), which no later request can use: an id is "
        f"{ID_RULE}.",
        response.status,
    )


def _uncertain(message: str, status: int) -> AgentTaskUncertainError:
    return AgentTaskUncertainError(f"{message} {MAY_HAVE_ACTED}", status=status)


def _is_from_service(response: Response) -> bool:
    return len(response.body) <= MAX_ERROR_BYTES and response.has_json_object()


def _describe_error(response: Response) -> str:
    message = None
    # Parsing a large body would block the event loop, and it contains no message.
    if len(response.body) <= MAX_ERROR_BYTES:
        with suppress(ValueError):
            message = response_values.error_message(response.to_json())
    return repr(message) if message else _describe_body(response)


def _describe_body(response: Response) -> str:
    if not response.body.strip():
        return "an empty body"
    kind = response.headers.get("content-type", "").partition(";")[0]
    # More than is shown, so that a secret at the end of the shown part is complete and can be recognised.
    start = shorten(response.redact(decode(response.body[:2_000])), 80)
    return f"{shorten(kind, 40) or 'a body'} starting with {start!r}"
