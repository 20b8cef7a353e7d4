"""The errors of replies that bring no agent task; they name the service, the request and the answer."""

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
from airflow_agent_tasks.services.http import MAY_HAVE_ACTED, Request, Response
from airflow_agent_tasks.services.retry_after import is_transient_status, leaves_doubt, read_retry_after
from airflow_agent_tasks.text import shorten

#: A larger body holds no sentence that is worth showing.
MAX_REFUSAL_BYTES = 64 * 1024


def refused(
    service: str, request: Request, response: Response, *, key_hint: str, now: float
) -> AgentTaskRequestError:
    """
    Return the error of a reply whose HTTP status is not 2xx.

    :param service: The service's name in sentences.
    :param key_hint: What to do about the key, for 401 and 403.
    :param now: Seconds since 1970, to read a ``Retry-After`` date against.
    """
    status = response.status
    reason = f"Could not {request.purpose}: {service} answered {status} ({_describe_refusal(response)})."
    if status in (401, 403):
        return AgentTaskAuthenticationError(f"{reason} {key_hint}", status=status)
    if status == 404:
        hint = "Check the ids, and that the connection leads to the account that owns them."
        return AgentTaskNotFoundError(f"{reason} {hint}", status=status)
    if request.has_effect and leaves_doubt(status):
        return _uncertain(reason, status)
    if is_transient_status(status):
        unavailable = AgentTaskRateLimitedError if status == 429 else AgentTaskUnavailableError
        return unavailable(reason, status=status, retry_after=read_retry_after(response.headers, now=now))
    if 300 <= status < 400:
        reason += (
            " Redirects are not followed, because they would carry the key elsewhere: "
            "put the service's final address into the connection's host."
        )
    return AgentTaskRejectedError(reason, status=status)


def unreadable(service: str, request: Request, response: Response, *, missing: str) -> AgentTaskRequestError:
    """Return the error of a 2xx reply that lacks what is needed: JSON, an id or a status."""
    message = (
        f"Could not {request.purpose}: {service} answered {response.status} without {missing} "
        f"({_describe_body(response)})."
    )
    if request.has_effect:
        return _uncertain(message, response.status)
    return AgentTaskReplyError(message, status=response.status, transient=True)


def _uncertain(message: str, status: int) -> AgentTaskUncertainError:
    return AgentTaskUncertainError(f"{message} {MAY_HAVE_ACTED}", status=status)


def _describe_refusal(response: Response) -> str:
    said = None
    # An event loop would stand still for what is too large to be a sentence.
    if len(response.body) <= MAX_REFUSAL_BYTES:
        with suppress(ValueError):
            said = response_values.refusal(response.to_json())
    return repr(said) if said else _describe_body(response)


def _describe_body(response: Response) -> str:
    if not response.body.strip():
        return "an empty body"
    kind = response.headers.get("content-type", "").partition(";")[0]
    start = shorten(response.body[:200].decode("utf-8", errors="replace"), 80)
    return f"{shorten(kind, 40) or 'a body'} beginning {start!r}"
