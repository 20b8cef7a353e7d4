"""What the end of the wait for an agent task means for its Airflow task."""

from __future__ import annotations

import json
from dataclasses import dataclass

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.errors import (
    AgentTaskCancelledError,
    AgentTaskError,
    AgentTaskFailedError,
    AgentTaskInputRequiredError,
    AgentTaskTimeoutError,
    AgentTaskUnavailableError,
    AgentTaskUncertainError,
)
from airflow_agent_tasks.lifecycle.commands import Flow, Log, PushError, PushTask, info, warning
from airflow_agent_tasks.lifecycle.execution import Execution
from airflow_agent_tasks.lifecycle.stop import stop, stop_or_leave
from airflow_agent_tasks.lifecycle.wait_policy import Decision, Verdict
from airflow_agent_tasks.text import shorten

#: The most characters of an agent's words in an error, and of an error in the log: both are one line.
MAX_SAID = 2_000
MAX_ERROR = 2 * MAX_SAID


@dataclass(frozen=True)
class Outcome:
    """
    How the Airflow task ends, where it does not fail.

    :param task: The agent task.
    :param skip_reason: Why the Airflow task is skipped; None where it succeeds.
    """

    task: AgentTask
    skip_reason: str | None = None


def resolve(execution: Execution, decision: Decision) -> Flow[Outcome]:
    """Return the outcome, or raise the failure; stops what nothing will wait for."""
    if decision.verdict is Verdict.TIMEOUT:
        limit = yield from execution.find_limit()
        task, fate = yield from stop_or_leave(execution)
        if task and task.status is TaskState.COMPLETED:
            return (yield from _resolve_state(execution, task))
        name = limit[1] if limit else "time"
        raise AgentTaskTimeoutError(f"{execution.name} did not end within its {name}. {fate}")
    if decision.verdict is Verdict.OUTAGE:
        raise AgentTaskUnavailableError(
            f"{execution.name} could not be watched: no usable answer for "
            f"{execution.settings.max_outage:g} s. "
            f"{execution.describe_left(decision.error)} The last failure: {decision.error}"
        )
    if decision.task is None:
        yield from warning(
            "%s can no longer be watched. %s", execution.name, execution.describe_left(decision.error)
        )
        raise decision.error or AgentTaskError(f"{execution.name} was not seen.")
    return (yield from _resolve_state(execution, decision.task))


def _resolve_state(execution: Execution, task: AgentTask) -> Flow[Outcome]:
    settings = execution.settings
    yield from PushTask(task)
    if task.exit_code is not None and task.exit_code in settings.skip_on_exit_code:
        return Outcome(task, f"{task}: exit code {task.exit_code} is one of skip_on_exit_code.")
    if task.status is TaskState.COMPLETED:
        yield from info("Completed: %s", task)
        return Outcome(task)
    if task.status is TaskState.AWAITING_INPUT:
        if settings.on_awaiting_input == "return":
            yield from execution.leave()
            return Outcome(task)
        fate = (yield from stop(execution))[1]
        raise AgentTaskInputRequiredError(
            f"{task} asks {shorten(task.question or '', MAX_SAID)!r}, and on_awaiting_input is "
            f"{settings.on_awaiting_input!r}. {fate}",
            task=task,
        )
    raise build_failure(task, is_final=task.exit_code in settings.no_retry_on_exit_code)


def report_failure(execution: Execution, error: AgentTaskError) -> Flow[None]:
    """Write why the Airflow task fails to its log and to XCom, and whether Airflow tries again."""
    error.task = error.task or execution.last_task
    text = f"{error} {describe_retry(execution, error)}"
    yield Log("error", "%s", (shorten(text, MAX_ERROR),))
    yield PushError(shorten(str(error), MAX_ERROR))


def describe_retry(execution: Execution, error: AgentTaskError) -> str:
    """Say whether Airflow tries again after a failure, and why."""
    task_try, task = execution.task_try, error.task
    tries = f"{task_try.max_tries + 1}"
    if not error.is_final:
        if task_try.has_next:
            return f"Airflow retries the task: try {task_try.try_number + 1} of {tries} is next."
        return f"Airflow does not retry the task: this was try {task_try.try_number} of {tries}."
    if isinstance(error, AgentTaskUncertainError):
        reason = "what was sent may have been carried out, and would be done twice"
    elif isinstance(error, AgentTaskFailedError) and task:
        reason = f"exit code {task.exit_code} is one of no_retry_on_exit_code"
    elif isinstance(error, AgentTaskCancelledError):
        reason = "a user decided to stop the agent"
    else:
        reason = "a retry would fail in the same way"
    return f"Airflow does not retry the task: {reason}."


def build_failure(task: AgentTask, *, is_final: bool) -> AgentTaskFailedError | AgentTaskCancelledError:
    """Return the error of an agent task that ended badly: which task, which state, what the agent said."""
    said = task.result if isinstance(task.result, str) else json.dumps(task.result, ensure_ascii=False)
    hint = f" The agent said: {shorten(said, MAX_SAID)!r}." if task.result is not None else ""
    if task.status is TaskState.CANCELLED:
        return AgentTaskCancelledError(
            f"{task} was cancelled on the service.{hint}", task=task, is_final=is_final
        )
    return AgentTaskFailedError(f"{task} did not succeed.{hint}", task=task, is_final=is_final)
