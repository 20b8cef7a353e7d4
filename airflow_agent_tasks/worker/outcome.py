"""What the end of the wait for an agent task means for its Airflow task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowSkipException

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.errors import (
    AgentTaskError,
    AgentTaskInputRequiredError,
    AgentTaskTimeoutError,
    AgentTaskUnavailableError,
)
from airflow_agent_tasks.lifecycle.wait_policy import Decision, Verdict
from airflow_agent_tasks.text import shorten
from airflow_agent_tasks.worker.airflow_errors import build_failure

if TYPE_CHECKING:
    from airflow_agent_tasks.operators.agent_task import AgentTaskOperator
    from airflow_agent_tasks.worker.driver import WorkerLeg


class Ending:
    """
    Tells success from failure, and stops what nobody will wait for.

    :param operator: Whose arguments count.
    :param leg: The stay on the worker.
    """

    def __init__(self, operator: AgentTaskOperator, leg: WorkerLeg) -> None:
        self._operator = operator
        self._leg = leg

    def judge(self, decision: Decision) -> AgentTask:
        """Return the agent task with which the Airflow task succeeds, or raise how it fails or is skipped."""
        leg, operator = self._leg, self._operator
        if decision.verdict is Verdict.TIMEOUT:
            limit = leg.limit[1] if leg.limit else "time"
            task, fate = leg.stop() if operator.on_timeout == "stop" else (None, leg.leave())
            if task and task.status is TaskState.COMPLETED:
                return self._judge_state(task)
            raise AgentTaskTimeoutError(f"{leg.name} did not end within its {limit}. {fate}")
        if decision.verdict is Verdict.OUTAGE:
            raise AgentTaskUnavailableError(
                f"{leg.name} could not be watched: no usable answer for {operator.max_outage:g} s. "
                f"{leg.describe_left(decision.error)} The last failure: {decision.error}"
            )
        if decision.task is None:
            fate = leg.describe_left(decision.error)
            operator.log.warning("%s can no longer be watched. %s", leg.name, fate)
            raise decision.error or AgentTaskError(f"{leg.name} was not seen.")
        return self._judge_state(decision.task)

    def _judge_state(self, task: AgentTask) -> AgentTask:
        leg, operator = self._leg, self._operator
        leg.xcoms.push(task)
        if task.exit_code is not None and task.exit_code in operator.skip_on_exit_code:
            raise AirflowSkipException(f"{task}: exit code {task.exit_code} is one of skip_on_exit_code.")
        if task.status is TaskState.COMPLETED:
            operator.log.info("Completed: %s", task)
            return task
        if task.status is TaskState.AWAITING_INPUT:
            if operator.on_awaiting_input == "return":
                leg.leave()
                return task
            raise AgentTaskInputRequiredError(
                f"{task} asks {shorten(task.question or '', 500)!r}, and on_awaiting_input is "
                f"{operator.on_awaiting_input!r}. {leg.stop()[1]}",
                task=task,
            )
        raise build_failure(task, is_final=task.exit_code in operator.no_retry_on_exit_code)
