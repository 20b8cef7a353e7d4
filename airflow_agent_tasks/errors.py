"""
Every exception of this package.

    AgentTaskError
    ├── AgentTaskConfigurationError     the connection cannot be used as it is            final
    │   ├── AgentTaskConnectionNotFoundError  it does not exist, or cannot be read    transient
    │   └── AgentTaskInsecureError            no trusted TLS connection               transient
    ├── AgentTaskArgumentError          an invalid argument (also a ValueError)           final
    ├── AgentTaskNotSupportedError      the service has no such call                      final
    ├── AgentTaskRequestError           a request got no usable response
    │   ├── AgentTaskRejectedError      the service rejected it (4xx); 400 and 422 are    final
    │   │   ├── AgentTaskAuthenticationError    401, 403                                  final
    │   │   └── AgentTaskNotFoundError          404
    │   ├── AgentTaskUnavailableError   the service cannot answer now                 transient
    │   │   ├── AgentTaskRateLimitedError       429                                   transient
    │   │   └── AgentTaskCircuitOpenError       not sent: the circuit breaker is open transient
    │   ├── AgentTaskReplyError         the response cannot be read
    │   └── AgentTaskUncertainError     sent, but not answered: it may have been carried out  final
    └── AgentTaskOutcomeError           the agent task ended, or waits, in an unwanted way
        ├── AgentTaskFailedError
        ├── AgentTaskCancelledError
        ├── AgentTaskInputRequiredError
        ├── AgentTaskUnreachableStateError
        └── AgentTaskTimeoutError

``final`` errors would recur on every retry, so operators fail the Airflow task without one. ``transient``
errors are worth another attempt after a while. Nothing here imports Airflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_agent_tasks.documentation import link_error

if TYPE_CHECKING:
    from airflow_agent_tasks.agent_task import AgentTask


class AgentTaskError(Exception):
    """
    Base of all errors of this package.

    Callbacks of a failed Airflow task find it in ``context["exception"]``.
    """

    #: The agent task as it was last seen, or None if no agent task was seen.
    task: AgentTask | None = None
    #: Whether and why Airflow retries, as a sentence; empty if ``is_final`` already decides it.
    retry_note: str = ""

    #: A retry would fail in the same way.
    is_final: bool = False
    #: The request is fine, and may succeed later.
    is_transient: bool = False

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        # Python and Airflow print it below the traceback, also that of a DAG that cannot be imported.
        self.__notes__ = [f"See {link_error(type(self))}"]


class AgentTaskConfigurationError(AgentTaskError):
    """The Airflow connection lacks something, or contains something unusable."""

    is_final = True


class AgentTaskConnectionNotFoundError(AgentTaskConfigurationError):
    """
    There is no such connection, or it cannot be read now.

    Transient, because Airflow reports an unavailable secrets backend in the same way as a misspelt name.
    """

    is_final = False
    is_transient = True


class AgentTaskInsecureError(AgentTaskConfigurationError):
    """
    No trusted TLS connection to the service.

    Transient, because a certificate that expires during a wait looks like a missing CA.
    """

    is_final = False
    is_transient = True


class AgentTaskArgumentError(AgentTaskError, ValueError):
    """An argument is invalid; the message names the field, the value and the allowed values."""

    is_final = True


class AgentTaskNotSupportedError(AgentTaskError):
    """The service has no such call; the message names the alternative."""

    is_final = True


class AgentTaskRequestError(AgentTaskError):
    """
    A request got no usable response.

    :param message: What happened, to which agent task, and what to do.
    :param status: The HTTP status, or None if no response came.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class AgentTaskRejectedError(AgentTaskRequestError):
    """The service rejected the request."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message, status=status)
        self.is_final = status in (400, 401, 403, 422)


class AgentTaskAuthenticationError(AgentTaskRejectedError):
    """The key is missing, wrong, or not allowed to do this (401, 403)."""


class AgentTaskNotFoundError(AgentTaskRejectedError):
    """The service has no such agent task or agent (404)."""


class AgentTaskUnavailableError(AgentTaskRequestError):
    """
    The service could not be reached, or cannot answer now.

    :param retry_after: Seconds that the service asked us to wait, or None.
    """

    is_transient = True

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, status=status)
        self.retry_after = retry_after


class AgentTaskRateLimitedError(AgentTaskUnavailableError):
    """Too many requests (429)."""


class AgentTaskCircuitOpenError(AgentTaskUnavailableError):
    """
    Nothing was sent, because the circuit breaker of the connection is open.

    :param outage_seconds: Seconds from the first to the last of the failures that keep it open.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        outage_seconds: float = 0.0,
    ) -> None:
        super().__init__(message, status=status, retry_after=retry_after)
        self.outage_seconds = outage_seconds


class AgentTaskReplyError(AgentTaskRequestError):
    """
    The service sent a response that cannot be read.

    :param transient: True if the next attempt may succeed, as after a proxy's error page; default False.
    """

    def __init__(self, message: str, *, status: int | None = None, transient: bool = False) -> None:
        super().__init__(message, status=status)
        self.is_transient = transient


class AgentTaskUncertainError(AgentTaskRequestError):
    """
    A request with an effect got no usable response: it may or may not have been carried out.

    Final, because a blind retry could start a second agent task or send an agent the same message twice; not
    final if an idempotency key, or the user's ``on_uncertain_submit``, makes a retry safe.
    """

    is_final = True


class AgentTaskOutcomeError(AgentTaskError):
    """
    The agent task ended, or waits, in an unwanted way.

    :param task: The agent task as last seen, or None.
    :param is_final: True if a retry is unwanted; default False.
    """

    def __init__(self, message: str, *, task: AgentTask | None = None, is_final: bool = False) -> None:
        super().__init__(message)
        self.task = task
        self.is_final = is_final


class AgentTaskFailedError(AgentTaskOutcomeError):
    """The agent task failed, or ended with an exit code other than 0."""


class AgentTaskCancelledError(AgentTaskOutcomeError):
    """The agent task was cancelled on the service."""


class AgentTaskInputRequiredError(AgentTaskOutcomeError):
    """The agent asks a question, and the operator's ``on_awaiting_input`` lets nobody answer it."""


class AgentTaskUnreachableStateError(AgentTaskOutcomeError):
    """The agent task can no longer reach any of the target states."""


class AgentTaskTimeoutError(AgentTaskOutcomeError):
    """The agent task did not end within the ``timeout`` of its operator."""
