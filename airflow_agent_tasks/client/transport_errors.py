"""The errors of a request that got no response, in the same words for both clients."""

from __future__ import annotations

from airflow_agent_tasks.client.settings import STREAM_TIMEOUT, ClientSettings
from airflow_agent_tasks.errors import (
    AgentTaskConfigurationError,
    AgentTaskInsecureError,
    AgentTaskReplyError,
    AgentTaskRequestError,
    AgentTaskUnavailableError,
    AgentTaskUncertainError,
)
from airflow_agent_tasks.services.http import MAX_BODY_BYTES, MAY_HAVE_ACTED, Request


def not_sent(request: Request, settings: ClientSettings) -> AgentTaskUnavailableError:
    """No connection, so the service has done nothing."""
    return AgentTaskUnavailableError(
        f"Could not {request.purpose}: no connection to {settings.host} (refused, unknown host, proxy error, "
        f"or no response within {settings.connect_timeout:g} s). Check the host of {settings.source} and the "
        "network."
    )


def no_answer(request: Request, settings: ClientSettings, what: str) -> AgentTaskRequestError:
    """The request was sent, and no complete response came back."""
    message = f"Could not {request.purpose}: {settings.host} {what}."
    if request.has_effect:
        return AgentTaskUncertainError(f"{message} {MAY_HAVE_ACTED}")
    return AgentTaskUnavailableError(message)


def cut_off(request: Request, settings: ClientSettings) -> AgentTaskRequestError:
    """The connection closed before the response was complete, or the response is not HTTP."""
    return no_answer(
        request, settings, "closed the connection before the response was complete, or sent an invalid one"
    )


def too_slow(request: Request, settings: ClientSettings) -> AgentTaskRequestError:
    """The response did not arrive in time."""
    return no_answer(
        request, settings, f"did not respond within {settings.timeout:g} s (extra field 'timeout')"
    )


def too_silent(request: Request, settings: ClientSettings) -> AgentTaskRequestError:
    """An event stream sent nothing for too long."""
    return no_answer(request, settings, f"sent no event for {STREAM_TIMEOUT:g} s")


def too_large(request: Request, settings: ClientSettings, status: int) -> AgentTaskRequestError:
    """The response would take too much memory in a worker."""
    message = (
        f"Could not {request.purpose}: the response from {settings.host} exceeds {MAX_BODY_BYTES} bytes, so "
        "the rest was not read."
    )
    if request.has_effect:
        return AgentTaskUncertainError(f"{message} {MAY_HAVE_ACTED}", status=status)
    return AgentTaskReplyError(message, status=status)


def bad_certificate(settings: ClientSettings) -> AgentTaskInsecureError:
    """The service's certificate could not be verified."""
    return AgentTaskInsecureError(
        f"No secure connection to {settings.host}: its certificate could not be verified. If your own CA "
        f"signed it, set the extra field 'verify' of {settings.source} to the path of the CA file."
    )


def no_tls(settings: ClientSettings) -> AgentTaskInsecureError:
    """The server does not use TLS."""
    return AgentTaskInsecureError(
        f"No secure connection to {settings.host}: it does not use https. If it serves plain http, as the "
        f"sandbox does, put http:// before the host of {settings.source}."
    )


def unusable(request: Request, settings: ClientSettings) -> AgentTaskConfigurationError:
    """The settings are so invalid that no request can be built."""
    return AgentTaskConfigurationError(
        f"Could not {request.purpose}: {settings.source} is unusable. "
        "Check its host and its extra fields 'proxy' and 'verify'."
    )
