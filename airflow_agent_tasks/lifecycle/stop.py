"""Stops the agent task when nothing will wait for it any more."""

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
from airflow_agent_tasks.lifecycle.measurements import measure_stop, report

#: Seconds before each further check of an agent task that still runs after the service accepted the stop.
PAUSES_BEFORE_LOOKS = (1.0, 2.0, 4.0)


def stop_and_look(started: StartedTask, before: AgentTask | None) -> Flow[AgentTask]:
    """
    Stop an agent task, and return it as reported by a status check after the stop.

    :param started: The agent task.
    :param before: The agent task as last seen, or None.
    :raises AgentTaskError: if stopping it failed, or it still runs after a few seconds.
    """
    task = yield from StopTask(started)
    if task.status is TaskState.COMPLETED:
        return (yield from GetTask(started))  # StopTask does not read the result
    for seconds in PAUSES_BEFORE_LOOKS:
        if task.is_stopped:
            break
        yield from Sleep(seconds, minds_kill=False)
        task = yield from GetTask(started)
    yield from report(measure_stop(task, before))
    if not task.is_stopped:
        raise AgentTaskError(f"The service accepted the stop, but the agent task {describe_stop(task)}.")
    return task


def describe_stop(task: AgentTask) -> str:
    """Return the effect of a stop on an agent task, as the predicate of a sentence."""
    if not task.is_stopped:
        return f"still runs after the stop: {task}"
    # A stop leads to one of these two states; any other final state means that it came too late.
    if task.status in (TaskState.CANCELLED, TaskState.PAUSED):
        return f"was stopped (now {task.status})"
    return f"had already ended: {task}"


def stop(execution: Execution) -> Flow[tuple[AgentTask | None, str]]:
    """
    Stop the agent task.

    :return: The agent task as the service then describes it, or None if stopping failed; and what happened to
        it, as a sentence. It may have completed just before, and then has a result.
    """
    # Even if this fails, stop the agent task: left running, it would cost money with nothing waiting for it.
    yield from warn_on_failure(execution.mark(is_stopping=True))
    try:
        task = yield from stop_and_look(execution.started, execution.last_task)
    except AgentTaskError as error:
        return None, f"Stopping it failed, so it may still be running: {error}"
    execution.last_task = task
    yield from PushTask(task)
    if task.status is TaskState.COMPLETED:
        return task, "It had already completed; the next try takes its result."
    # The next try starts a new agent task, even if this one is only paused.
    yield from warn_on_failure(execution.close(execution.started, task))
    return task, f"It {describe_stop(task)}."


def stop_on_execution_timeout(execution: Execution) -> Flow[AgentTaskTimeoutError]:
    """
    Apply ``on_timeout`` after Airflow's ``execution_timeout`` interrupted the execution at any point.

    The record says which agent task to stop: the execution may not have reached it yet, or may be about to
    start another.

    :return: The failure to raise.
    """
    # Read again: the interruption may have come between a save and its return.
    execution.submission = None
    submission = yield from warn_on_failure(execution.load())
    started = submission.started if submission else execution.last_started
    limit = f"The execution_timeout of {execution.settings.execution_timeout or 0:g} s passed"
    if started is None:
        return AgentTaskTimeoutError(f"{limit} before the service confirmed the start of an agent task.")
    yield from execution.adopt(started)
    if execution.is_keeping_result:  # object storage was too slow
        yield from warn_on_failure(execution.mark(is_undelivered=True))
    fate = (yield from stop_or_leave(execution))[1]
    return AgentTaskTimeoutError(f"{limit} before {execution.name} ended. {fate}", task=execution.last_task)


def stop_or_leave(execution: Execution) -> Flow[tuple[AgentTask | None, str]]:
    """Apply ``on_timeout``; returns the same as ``stop``, with None if the agent task was left running."""
    if execution.settings.on_timeout == "stop":
        return (yield from stop(execution))
    return None, (yield from execution.leave())
