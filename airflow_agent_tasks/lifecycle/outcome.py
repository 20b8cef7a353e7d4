"""Decides how the Airflow task ends once the wait for its agent task is over."""

from __future__ import annotations

import json
from dataclasses import dataclass

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.errors import (
    AgentTaskBudgetError,
    AgentTaskCancelledError,
    AgentTaskError,
    AgentTaskFailedError,
    AgentTaskInputRequiredError,
    AgentTaskTimeoutError,
    AgentTaskUnavailableError,
    AgentTaskUncertainError,
)
from airflow_agent_tasks.lifecycle.artifacts import keep_result
from airflow_agent_tasks.lifecycle.commands import (
    FindService,
    Flow,
    PushTask,
    ReadClock,
    info,
    warn_on_failure,
    warning,
)
from airflow_agent_tasks.lifecycle.execution import Execution
from airflow_agent_tasks.lifecycle.follow_stream import finish_stream
from airflow_agent_tasks.lifecycle.measurements import measure_end, report
from airflow_agent_tasks.lifecycle.question_log import Questions
from airflow_agent_tasks.lifecycle.stop import describe_stop, stop, stop_or_leave
from airflow_agent_tasks.lifecycle.wait_policy import Decision, Verdict
from airflow_agent_tasks.services.embedded_files import drop_files
from airflow_agent_tasks.services.usage import describe_usage, list_passed, list_unreported
from airflow_agent_tasks.text import shorten

#: Maximum number of characters of an agent's words in an error.
MAX_SAID = 2_000


@dataclass(frozen=True)
class Outcome:
    """
    How the Airflow task ends, if it does not fail.

    :param task: The agent task.
    :param skip_reason: Why the Airflow task is skipped; None if it succeeds.
    """

    task: AgentTask
    skip_reason: str | None = None


def resolve(execution: Execution, decision: Decision) -> Flow[Outcome]:
    """Return the outcome or raise the failure; stops the agent task if nothing will wait for it."""
    if decision.verdict is Verdict.TIMEOUT:
        limit = yield from execution.find_limit()
        task, fate = yield from stop_or_leave(execution)
        if task and task.status is TaskState.COMPLETED:
            return (yield from _resolve_state(execution, task))
        name = limit[1] if limit else "time limit"
        raise AgentTaskTimeoutError(f"{execution.name} did not end within its {name}. {fate}")
    if decision.verdict is Verdict.BUDGET:
        return (yield from _resolve_budget(execution))
    if decision.verdict is Verdict.OUTAGE:
        raise AgentTaskUnavailableError(
            f"Stopped polling {execution.name}: no usable response within the max_outage of "
            f"{execution.settings.max_outage:g} s. "
            f"{execution.describe_left(decision.error)} Last failure: {decision.error}"
        )
    if decision.task is None:
        yield from warning("Stopped polling %s. %s", execution.name, execution.describe_left(decision.error))
        raise decision.error or AgentTaskError(f"{execution.name} has no known state.")
    return (yield from _resolve_state(execution, decision.task))


def _resolve_budget(execution: Execution) -> Flow[Outcome]:
    budget = execution.settings.budget or {}
    passing = execution.count_steps(execution.last_task) if execution.last_task else None
    task: AgentTask | None
    if passing and passing.is_stopped:  # by the trigger
        yield from warn_on_failure(execution.close(execution.started, passing))
        task, fate = passing, f"It {describe_stop(passing)}."
    else:
        yield from warn_on_failure(execution.mark(is_over_budget=True))
        task, fate = yield from stop(execution)
    if task and task.status is TaskState.COMPLETED:
        return (yield from _resolve_state(execution, task))
    passed = ", ".join(list_passed(passing, budget)) if passing else ""
    usage = f" Usage so far: {describe_usage(passing.usage)}." if passing and passing.usage else ""
    raise AgentTaskBudgetError(
        f"{execution.name} passed its budget: {passed or describe_usage(budget)}.{usage} {fate}",
        task=task or passing,
        # If the stop failed, the next try finishes it.
        is_final=task is not None,
    )


def _report_usage(execution: Execution, task: AgentTask) -> Flow[None]:
    if task.usage:
        yield from info("Usage: %s", describe_usage(task.usage))
    budget, task = execution.settings.budget or {}, execution.count_steps(task)
    if passed := list_passed(task, budget):
        yield from warning("The agent task ended before its budget could stop it: %s", ", ".join(passed))
    if unreported := list_unreported(task, budget):
        yield from warning(
            "The service did not report %s, so the budget could not limit it.", " or ".join(unreported)
        )


def _resolve_state(execution: Execution, task: AgentTask) -> Flow[Outcome]:
    settings = execution.settings
    if execution.stream and task.is_terminal:
        yield from finish_stream(execution, (yield from FindService()))
    task = execution.complete(task)
    yield from PushTask(task)
    if task.is_terminal:
        yield from _report_usage(execution, task)
    task = yield from keep_result(execution, task)
    if task.is_terminal:
        yield from _measure(execution, task)
    if task.exit_code is not None and task.exit_code in settings.skip_on_exit_code:
        yield from report(execution.measurements)
        return Outcome(task, f"{task}: exit code {task.exit_code} is one of skip_on_exit_code.")
    if task.status is TaskState.COMPLETED:
        yield from info("Completed: %s", task)
        return Outcome(task)
    yield from report(execution.measurements)
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
    if task.status is TaskState.FAILED and not execution.is_settled_by(task):
        # The next try starts a new one in any case; until then, this one must not count as active.
        yield from warn_on_failure(execution.close(execution.started, task))
    raise build_failure(task, is_final=task.exit_code in settings.no_retry_on_exit_code)


def _measure(execution: Execution, task: AgentTask) -> Flow[None]:
    # Not loaded for it: the flow has the record wherever there was a question.
    questions = execution.submission.questions if execution.submission else Questions()
    submitted_at, now = execution.started.started_at, (yield from ReadClock())
    execution.measurements = tuple(measure_end(task, questions, submitted_at=submitted_at, now=now))


def describe_retry(error: AgentTaskError, *, try_number: int, max_tries: int) -> str:
    """
    Return whether Airflow retries after a failure, and why, as a sentence.

    :param error: The failure.
    :param try_number: The number of the try that failed, from 1.
    :param max_tries: Airflow's ``max_tries``; the number of the last try is one higher.
    """
    if error.retry_note:
        return error.retry_note
    if error.is_final:
        is_doubt = isinstance(error, AgentTaskUncertainError)
        doubt = "the request may have been carried out, and a retry could do the work twice"
        return (
            f"Airflow does not retry the task: {doubt if is_doubt else 'a retry would fail in the same way'}."
        )
    if try_number <= max_tries:
        return f"Airflow retries the task: try {try_number + 1} of {max_tries + 1} is next."
    return f"Airflow does not retry the task: this was try {try_number} of {max_tries + 1}."


def build_failure(task: AgentTask, *, is_final: bool) -> AgentTaskFailedError | AgentTaskCancelledError:
    """Return the error of an agent task that did not succeed: its id, its state and the agent's words."""
    failure: AgentTaskFailedError | AgentTaskCancelledError
    if task.status is TaskState.CANCELLED:
        failure = AgentTaskCancelledError(
            f"{task} was cancelled on the service.{describe_words(task)}", task=task
        )
    else:
        failure = AgentTaskFailedError(f"{task} did not succeed.{describe_words(task)}", task=task)
    if is_final:
        failure.is_final = True
        failure.retry_note = (
            f"Airflow does not retry the task: exit code {task.exit_code} is one of no_retry_on_exit_code."
        )
    return failure


def describe_words(task: AgentTask) -> str:
    """Return the agent's result as a sentence to append to an error, or an empty string."""
    if task.result is None:
        return ""
    result = drop_files(task.result)
    said = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
    return f" The agent said: {shorten(said, MAX_SAID)!r}."
