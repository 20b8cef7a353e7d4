"""Stopping the agent task, when nothing will wait for it any more."""

from __future__ import annotations

from airflow_agent_tasks.agent_task import AgentTask, StartedTask, TaskState
from airflow_agent_tasks.errors import AgentTaskError, AgentTaskTimeoutError
from airflow_agent_tasks.lifecycle.commands import (
    Flow,
    GetTask,
    PushTask,
    Sleep,
    StopTask,
    warn_on_failure,
)
from airflow_agent_tasks.lifecycle.execution import Execution

#: Seconds before each further look at an agent task that still runs, although the service accepted its stop.
PAUSES_BEFORE_LOOKS = (1.0, 2.0, 4.0)


def stop_and_look(started: StartedTask) -> Flow[AgentTask]:
    """
    Stop an agent task, and return it as it is seen then: only what is seen is believed.

    :raises AgentTaskError: where stopping it failed, or it still runs after a few seconds.
    """
    task = yield from StopTask(started)
    if task.status is TaskState.COMPLETED:
        return (yield from GetTask(started))  # a stop reads no result
    for seconds in PAUSES_BEFORE_LOOKS:
        if task.is_stopped:
            return task
        yield from Sleep(seconds, minds_kill=False)
        task = yield from GetTask(started)
    if not task.is_stopped:
        raise AgentTaskError(f"The service accepted the stop, but the agent task {describe_stop(task)}.")
    return task


def describe_stop(task: AgentTask) -> str:
    """Return what a stop has done to an agent task, as it was seen after it, as the end of a sentence."""
    if not task.is_stopped:
        return f"goes on after the stop: {task}"
    # A stop makes it one of these two; in any other end it came too late.
    if task.status in (TaskState.CANCELLED, TaskState.PAUSED):
        return f"was stopped (now {task.status})"
    return f"had ended before: {task}"


def stop(execution: Execution) -> Flow[tuple[AgentTask | None, str]]:
    """
    Stop the agent task.

    :return: The agent task as the service then describes it, or None where stopping failed; and what happened
        to it, as a sentence. It may have completed just before, and holds a result then.
    """
    # Where that fails it is stopped all the same: what nothing waits for costs money.
    yield from warn_on_failure(execution.mark(is_stopping=True))
    try:
        task = yield from stop_and_look(execution.started)
    except AgentTaskError as error:
        return None, f"Stopping it failed, so it may still be running: {error}"
    execution.last_task = task
    yield from PushTask(task)
    if task.status is TaskState.COMPLETED:
        return task, "It had completed just before; the next try takes its result."
    # What was stopped is over: the next try starts a new one, also where stopping is no more than a pause.
    yield from warn_on_failure(execution.drop())
    return task, f"It {describe_stop(task)}."


def stop_on_execution_timeout(execution: Execution) -> Flow[AgentTaskTimeoutError]:
    """
    Do what ``on_timeout`` says, once Airflow's ``execution_timeout`` has passed, wherever that was.

    What to stop is in the record: the execution may not have come to it yet, or be about to start another.

    :return: The failure that this is.
    """
    submission = yield from warn_on_failure(execution.load())
    started = submission.started if submission else execution.last_started
    limit = f"The execution_timeout of {execution.settings.execution_timeout or 0:g} s passed"
    if started is None:
        return AgentTaskTimeoutError(f"{limit} before an agent task was known to be started.")
    yield from execution.adopt(started)
    fate = (yield from stop_or_leave(execution))[1]
    return AgentTaskTimeoutError(
        f"{limit} before the end of {execution.name}. {fate}", task=execution.last_task
    )


def stop_or_leave(execution: Execution) -> Flow[tuple[AgentTask | None, str]]:
    """Do what ``on_timeout`` says; returns what :func:`stop` returns, with None where it was left running."""
    if execution.settings.on_timeout == "stop":
        return (yield from stop(execution))
    return None, (yield from execution.leave())
