"""The errors of a request that brought no reply, in the same words for both clients."""

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
    """The connection could not be made, so the service has done nothing."""
    return AgentTaskUnavailableError(
        f"Could not {request.purpose}: no connection to {settings.host} (refused, unknown host, proxy, or no "
        f"answer within {settings.connect_timeout:g} s). Check the host of {settings.source} and the network."
    )


def no_answer(request: Request, settings: ClientSettings, what: str) -> AgentTaskRequestError:
    """The request went out, and no whole reply came back."""
    message = f"Could not {request.purpose}: {settings.host} {what}."
    if request.has_effect:
        return AgentTaskUncertainError(f"{message} {MAY_HAVE_ACTED}")
    return AgentTaskUnavailableError(message)


def cut_off(request: Request, settings: ClientSettings) -> AgentTaskRequestError:
    """The connection ended before the reply did, or what came is no HTTP."""
    return no_answer(request, settings, "ended the connection before its reply was complete, or garbled it")


def too_slow(request: Request, settings: ClientSettings) -> AgentTaskRequestError:
    """The reply did not come in time."""
    return no_answer(
        request, settings, f"did not answer within {settings.timeout:g} s (extra field 'timeout')"
    )


def too_silent(request: Request, settings: ClientSettings) -> AgentTaskRequestError:
    """An event stream said nothing for too long."""
    return no_answer(request, settings, f"sent no event for {STREAM_TIMEOUT:g} s")


def too_large(request: Request, settings: ClientSettings, status: int) -> AgentTaskRequestError:
    """The reply is larger than anyone would want in a worker's memory."""
    message = (
        f"Could not {request.purpose}: the reply of {settings.host} has more than {MAX_BODY_BYTES} bytes and "
        "was not read on."
    )
    if request.has_effect:
        return AgentTaskUncertainError(f"{message} {MAY_HAVE_ACTED}", status=status)
    return AgentTaskReplyError(message, status=status)


def bad_certificate(settings: ClientSettings) -> AgentTaskInsecureError:
    """The service's certificate could not be verified."""
    return AgentTaskInsecureError(
        f"No secure connection to {settings.host}: its certificate could not be verified. If it is signed by "
        f"a CA of your own, put the path of the CA file into the extra field 'verify' of {settings.source}."
    )


def no_tls(settings: ClientSettings) -> AgentTaskInsecureError:
    """The other side does not speak TLS as we do."""
    return AgentTaskInsecureError(
        f"No secure connection to {settings.host}: it does not speak https. If it is plain http, as the "
        f"sandbox is, write http:// in front of the host of {settings.source}."
    )


def unusable(request: Request, settings: ClientSettings) -> AgentTaskConfigurationError:
    """The request could not even be made from these settings."""
    return AgentTaskConfigurationError(
        f"Could not {request.purpose}: {settings.source} cannot be used. Check its host, proxy and verify."
    )
