"""
Every exception of this package.

    AgentTaskError
    ├── AgentTaskConfigurationError     a connection or setting cannot be used as it is   final
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
    └── AgentTaskOutcomeError           the agent task did not end as intended
        ├── AgentTaskFailedError
        ├── AgentTaskCancelledError
        ├── AgentTaskInputRequiredError
        ├── AgentTaskUnreachableStateError
        ├── AgentTaskTimeoutError
        ├── AgentTaskUndeliveredError
        └── AgentTaskBudgetError                                                      final

``final`` errors would recur on every retry, so operators fail the Airflow task without one. ``transient``
errors are worth another attempt after a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_agent_tasks.documentation import link_error

if TYPE_CHECKING:
    from airflow_agent_tasks.agent_task import AgentTask


class AgentTaskError(Exception):
    """
    Base of all errors of this package.

    Callbacks of a failed task find it in ``context["exception"]``. The message says what happened, and the
    log line adds whether Airflow retries. Clearing the task starts over: it stops the earlier agent task.
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
        # Python and Airflow print it below the traceback, including that of a DAG import error.
        self.__notes__ = [f"See {link_error(type(self))}"]


class AgentTaskConfigurationError(AgentTaskError):
    """
    The Airflow connection, or a setting of this package, has a value that is missing or invalid.

    The message names it. Correct the setting, or the connection under **Admin → Connections** (or in the
    environment or secrets backend), run ``airflow agent-tasks doctor --connections``, then clear the task.
    """

    is_final = True


class AgentTaskConnectionNotFoundError(AgentTaskConfigurationError):
    """
    The connection does not exist, or it cannot be read now.

    Check the spelling of ``conn_id``, and add the connection or repair your secrets backend. Transient,
    because Airflow reports an unavailable secrets backend in the same way as a misspelt name.
    """

    is_final, is_transient = False, True


class AgentTaskInsecureError(AgentTaskConfigurationError):
    """
    There is no trusted TLS connection to the service.

    If your own CA signed the certificate, set the connection's extra field ``verify`` to the path of the CA
    file. If the server uses plain HTTP, as the sandbox does, put ``http://`` before the connection's host.
    Transient, because a certificate that expires during a wait looks like a missing CA.
    """

    is_final, is_transient = False, True


class AgentTaskArgumentError(AgentTaskError, ValueError):
    """
    An argument is invalid; the message names the field, the value and the allowed values.

    Correct it in the DAG. If it is a template, look under **Rendered Templates**: its value may be missing,
    such as the XCom of a skipped task. No new agent task was started.
    """

    is_final = True


class AgentTaskNotSupportedError(AgentTaskError):
    """The service has no such call or state; use the alternative that the message names."""

    is_final = True


class AgentTaskRequestError(AgentTaskError):
    """
    A request got no usable response; the classes below say what to do.

    :param status: The HTTP status, or None if no response came.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class AgentTaskRejectedError(AgentTaskRequestError):
    """
    The service rejected the request (an HTTP status such as 400, 409 or 422).

    The message quotes the service's reason. Correct the argument or the connection, then clear the task.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message, status=status)
        self.is_final = status in (400, 401, 403, 422)


class AgentTaskAuthenticationError(AgentTaskRejectedError):
    """
    The key is missing, wrong, or not allowed to do this (401, 403).

    Correct the connection's password, check it with ``airflow agent-tasks doctor --connections``, then clear
    the task. Do not try a wrong key repeatedly: Lightcone blocks an address after 10 failed authentications
    in 10 minutes. On Shinzo, 403 means that the key's account has no agents enabled.
    """


class AgentTaskNotFoundError(AgentTaskRejectedError):
    """
    The service has no such agent task or agent (404).

    Check ``agent_id`` and ``agent_task_id``, and that the connection belongs to the account that owns them.
    """


class AgentTaskUnavailableError(AgentTaskRequestError):
    """
    The service could not be reached, or cannot answer now.

    The DAG is fine: with ``retries``, the next try attaches to the agent task if it still runs. If the error
    persists, check the service's status, and run ``airflow agent-tasks doctor --connections`` on a worker:
    the connection's host or proxy may be wrong. To wait out longer outages, raise ``max_outage``.

    :param retry_after: Seconds that the service asked us to wait, or None.
    """

    is_transient = True

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, status=status)
        self.retry_after = retry_after


class AgentTaskRateLimitedError(AgentTaskUnavailableError):
    """
    The connection sent too many requests (429).

    Set ``requests_per_second`` or ``max_concurrent_tasks`` in the connection. Short limits are waited out
    before this is raised; with ``retries``, the task tries again later.
    """


class AgentTaskCircuitOpenError(AgentTaskUnavailableError):
    """
    Nothing was sent, because the circuit breaker of the connection is open.

    This says nothing about the agent task. The message has the status of the last response, if there was
    one. If the key was rejected, correct the connection's password: waiting tasks use it within a minute.

    :param outage_seconds: Seconds from the first to the last of the failures that keep it open.
    """

    def __init__(self, message: str, *, outage_seconds: float = 0.0, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.outage_seconds = outage_seconds


class AgentTaskReplyError(AgentTaskRequestError):
    """
    The service sent a response that cannot be read.

    Often it comes from something else, such as a proxy's login page: check the connection's host and proxy.
    If the service itself sent it, report a bug with the message.

    :param transient: True if the next attempt may succeed, as after a proxy's error page; default False.
    """

    def __init__(self, message: str, *, status: int | None = None, transient: bool = False) -> None:
        super().__init__(message, status=status)
        self.is_transient = transient


class AgentTaskUncertainError(AgentTaskRequestError):
    """
    A request with an effect got no usable response: it may or may not have been carried out.

    Search the service for the task, or for the message that was sent. If a task runs there, stop it, or let
    it finish if its work is what you want. Then clear the Airflow task, which starts a new agent task, or
    mark it as success. If doing the work twice does no harm, set ``on_uncertain_submit="resubmit"``.

    Final, because a blind retry could start a second agent task or send an agent the same message twice; not
    final if an idempotency key, or the user's ``on_uncertain_submit``, makes a retry safe.
    """

    is_final = True


class AgentTaskOutcomeError(AgentTaskError):
    """
    The agent task did not end as intended; the classes below say what to do.

    :param task: The agent task as last seen, or None.
    :param is_final: True if a retry is unwanted; default False.
    """

    def __init__(self, message: str, *, task: AgentTask | None = None, is_final: bool = False) -> None:
        super().__init__(message)
        self.task = task
        self.is_final = is_final


class AgentTaskFailedError(AgentTaskOutcomeError):
    """
    The agent task failed, or ended with an exit code other than 0.

    Read what the agent said, in the message or in XCom ``error``. A retry or a clear starts a new agent task.
    List in ``no_retry_on_exit_code`` the exit codes for which a retry cannot help, and in
    ``skip_on_exit_code`` those that mean "nothing to do".
    """


class AgentTaskCancelledError(AgentTaskOutcomeError):
    """
    The agent task was cancelled on the service, or a user stopped it.

    The message says what happened: it was cancelled on the service, a user chose "Stop the agent" in the
    form, or someone marked, cleared or killed the Airflow task. If that was a mistake, clear the task.
    """


class AgentTaskInputRequiredError(AgentTaskOutcomeError):
    """
    The agent asked a question, but ``on_awaiting_input`` is ``"fail"``, so nobody could answer it.

    The question is in the message. Put the answer into the instruction, give the operator a ``reply``
    function, or set ``on_awaiting_input="ask"`` so that users can answer under Required Actions.
    """


class AgentTaskUnreachableStateError(AgentTaskOutcomeError):
    """
    The agent task can no longer reach any of the sensor's target states.

    The message names its state. If that is fine too, add it to ``target_states``. Otherwise find out on the
    service what happened, and clear the task that started it.
    """


class AgentTaskTimeoutError(AgentTaskOutcomeError):
    """
    The agent task did not end, or nobody answered its question, in time.

    The message names the limit (``timeout``, ``execution_timeout`` or ``input_timeout``), and says whether
    the agent task was stopped. Raise the limit, or set ``input_default`` for unanswered questions.
    """


class AgentTaskBudgetError(AgentTaskOutcomeError):
    """
    The agent task used more than the operator's ``budget`` allows, and was stopped.

    The message names both. Raise the budget or reduce the work, then clear the task. A retry would not help.
    """


class AgentTaskUndeliveredError(AgentTaskOutcomeError):
    """The result could not be stored. Do what the message says, then clear the task: it takes the result."""
