"""Operators that act on a running agent task, on either service."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.hooks.find_hook import find_hook
from airflow_agent_tasks.operators.argument_names import check_names, complete_docstring
from airflow_agent_tasks.operators.arguments import COMMON_CHECKS, CheckedArguments
from airflow_agent_tasks.operators.links import TASK_LINKS, list_unstored
from airflow_agent_tasks.operators.task_documentation import build_documentation
from airflow_agent_tasks.operators.value_checks import (
    check_name,
    check_optional_name,
    check_text,
    read_id,
    read_text,
)
from airflow_agent_tasks.worker.failures import airflow_failures, reported_failures
from airflow_agent_tasks.worker.links import Links

if TYPE_CHECKING:
    from airflow.sdk import Context
    from typing_extensions import Unpack

    from airflow_agent_tasks.operators.keywords import ActionOperatorArguments, AirflowOperatorArguments


class AgentTaskActionOperator(CheckedArguments, BaseOperator):
    """
    The base class of the message, pause, resume and cancel operators.

    :param agent_task_id: The service's id of the agent task, such as ``submit.output["task_id"]``. Required.
        (templated)
    :param conn_id: The Airflow connection; its type names the service. Required. (templated)
    :param agent_id: The agent that runs the task, on services where you choose one (Shinzo). Default None:
        the connection's ``agent_id``. (templated)
    :raises AirflowFailException: if the service does not support the call; the message names an alternative.
    """

    template_fields: Sequence[str] = ("agent_task_id", "agent_id", "conn_id")
    ui_color = "#f1eefb"
    operator_extra_links = TASK_LINKS

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__doc__:
            cls.__doc__ = complete_docstring(cls, AgentTaskActionOperator.__doc__ or "")

    def __init__(
        self,
        *,
        agent_task_id: str,
        conn_id: str,
        agent_id: str | None = None,
        **kwargs: Unpack[AirflowOperatorArguments],
    ) -> None:
        check_names(type(self), kwargs)
        super().__init__(**{**build_documentation(type(self), kwargs), **kwargs})
        self.agent_task_id = check_text("agent_task_id", agent_task_id)
        self.agent_id = check_optional_name("agent_id", agent_id)
        self.conn_id = check_name("conn_id", conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        """Make the call once, and return the agent task as the service then describes it."""
        reported = reported_failures(context["ti"], self.log, pushes_xcoms=bool(self.do_xcom_push))
        with reported, airflow_failures():
            self.agent_task_id = read_text("agent_task_id", self.agent_task_id)
            self.agent_id = read_id(self.agent_id)
            hook = find_hook(self.conn_id)
            self.operator_extra_links = list_unstored(self)
            Links(context["ti"], lambda: hook, self.log).show_task(self.agent_task_id, self.agent_id)
            task = self.act(hook)
        self.log.info("%s: %s", type(self).__name__, task)
        return task.to_json()

    @abc.abstractmethod
    def act(self, hook: AgentTaskHook) -> AgentTask:
        """Make the call."""


class AgentTaskMessageOperator(AgentTaskActionOperator):
    """
    Send a message to a running agent task, or the reply to one that awaits input.

    Returns the agent task as JSON (``AgentTask.to_json``).

    ```python
    AgentTaskMessageOperator(
        task_id="answer",
        agent_task_id=check.output["task_id"],
        conn_id="shinzo_default",
        message="Use the London office.",
    )
    ```

    :param message: The message or the reply. Required. (templated)
    """

    template_fields: Sequence[str] = (*AgentTaskActionOperator.template_fields, "message")
    argument_checks = {**COMMON_CHECKS, "message": check_text}  # noqa: RUF012

    def __init__(self, *, message: str, **kwargs: Unpack[ActionOperatorArguments]) -> None:
        super().__init__(**kwargs)
        self.message = check_text("message", message)

    def act(self, hook: AgentTaskHook) -> AgentTask:
        """Send the message."""
        self.message = read_text("message", self.message)
        return hook.send_message(self.agent_task_id, self.message, self.agent_id)


class AgentTaskPauseOperator(AgentTaskActionOperator):
    """
    Pause a running agent task, on Lightcone only.

    Returns the agent task as JSON (``AgentTask.to_json``).
    """

    def act(self, hook: AgentTaskHook) -> AgentTask:
        """Pause the task."""
        return hook.pause_task(self.agent_task_id, self.agent_id)


class AgentTaskResumeOperator(AgentTaskActionOperator):
    """
    Resume a paused agent task, on Lightcone only; Shinzo tasks are never paused.

    Returns the agent task as JSON (``AgentTask.to_json``).
    """

    def act(self, hook: AgentTaskHook) -> AgentTask:
        """Resume the task."""
        return hook.resume_task(self.agent_task_id, self.agent_id)


class AgentTaskCancelOperator(AgentTaskActionOperator):
    """
    Cancel a queued or running agent task, on Shinzo only. On Lightcone, pause it instead.

    Returns the agent task as JSON (``AgentTask.to_json``).
    """

    def act(self, hook: AgentTaskHook) -> AgentTask:
        """Cancel the task."""
        return hook.cancel_task(self.agent_task_id, self.agent_id)
