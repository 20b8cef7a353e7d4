"""
Every exception that this package raises by itself.

    AgentTaskError
    ├── AgentTaskConfigurationError     the connection cannot be used as it is            final
    │   ├── AgentTaskConnectionNotFoundError  there is none, or it cannot be read     transient
    │   └── AgentTaskInsecureError            no TLS connection that can be trusted   transient
    ├── AgentTaskArgumentError          a wrong argument (also a ValueError)              final
    ├── AgentTaskNotSupportedError      the service cannot do what was asked              final
    ├── AgentTaskRequestError           a request did not lead to a usable reply
    │   ├── AgentTaskRejectedError      the service said no (4xx); 400 and 422 are        final
    │   │   ├── AgentTaskAuthenticationError    401, 403                                  final
    │   │   └── AgentTaskNotFoundError          404
    │   ├── AgentTaskUnavailableError   the service cannot answer just now            transient
    │   │   ├── AgentTaskRateLimitedError       429                                   transient
    │   │   └── AgentTaskCircuitOpenError       not sent: the circuit breaker is open transient
    │   ├── AgentTaskReplyError         an answer came that cannot be read
    │   └── AgentTaskUncertainError     it was sent and no answer came: it may have worked  final
    └── AgentTaskOutcomeError           the agent task ended, or waits, otherwise than wished
        ├── AgentTaskFailedError
        ├── AgentTaskCancelledError
        ├── AgentTaskInputRequiredError
        ├── AgentTaskUnreachableStateError
        └── AgentTaskTimeoutError

``final`` errors would come again on every retry, so operators fail the Airflow task without one.
``transient`` errors are worth asking again after a while. Nothing here imports Airflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_agent_tasks.agent_task import AgentTask


class AgentTaskError(Exception):
    """Base of all errors of this package."""

    #: A retry would surely fail in the same way.
    is_final: bool = False
    #: Nothing is wrong with the request; asking again later may work.
    is_transient: bool = False


class AgentTaskConfigurationError(AgentTaskError):
    """The Airflow connection is missing something, or holds something that cannot be used."""

    is_final = True


class AgentTaskConnectionNotFoundError(AgentTaskConfigurationError):
    """
    There is no such connection, or it cannot be read just now.

    Transient, because Airflow reports a secrets backend that is down in the same way as a misspelt name.
    """

    is_final = False
    is_transient = True


class AgentTaskInsecureError(AgentTaskConfigurationError):
    """
    There is no TLS connection to the service that could be trusted.

    Transient, because a certificate that expired while a task was waited for looks like a CA that is missing.
    """

    is_final = False
    is_transient = True


class AgentTaskArgumentError(AgentTaskError, ValueError):
    """An argument is wrong; the message names the field, the value and what is allowed."""

    is_final = True


class AgentTaskNotSupportedError(AgentTaskError):
    """The service has no such call; the message names the alternative."""

    is_final = True


class AgentTaskRequestError(AgentTaskError):
    """
    A request did not lead to a usable reply.

    :param message: What happened, to which agent task, and what to do.
    :param status: The HTTP status, or None when no reply came.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class AgentTaskRejectedError(AgentTaskRequestError):
    """The service refused the request."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message, status=status)
        self.is_final = status in (400, 401, 403, 422)


class AgentTaskAuthenticationError(AgentTaskRejectedError):
    """The key is missing, wrong, or not allowed to do this (401, 403)."""


class AgentTaskNotFoundError(AgentTaskRejectedError):
    """The service knows no such agent task, or no such agent (404)."""


class AgentTaskUnavailableError(AgentTaskRequestError):
    """
    The service could not be reached, or cannot answer just now.

    :param retry_after: Seconds the service asked us to stay away, or None.
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
    The service answered with something that cannot be read.

    :param transient: True where a proxy's page or a cut reply may be gone the next time.
    """

    def __init__(self, message: str, *, status: int | None = None, transient: bool = False) -> None:
        super().__init__(message, status=status)
        self.is_transient = transient


class AgentTaskUncertainError(AgentTaskRequestError):
    """
    A request that acts was sent and no usable answer came: it may or may not have been carried out.

    Final, because a blind retry could start a second agent task, or tell an agent the same thing twice; not
    where an idempotency key, or the user's ``on_uncertain_submit``, makes a retry right.
    """

    is_final = True


class AgentTaskOutcomeError(AgentTaskError):
    """
    The agent task ended, or waits, otherwise than wished.

    :param task: The agent task as last seen, or None.
    :param is_final: True where a retry is not wanted.
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
    """The agent asks a question that nobody here may answer."""


class AgentTaskUnreachableStateError(AgentTaskOutcomeError):
    """The agent task can no longer come into any of the wanted states."""


class AgentTaskTimeoutError(AgentTaskOutcomeError):
    """The agent task did not end within the ``timeout`` of its operator."""
