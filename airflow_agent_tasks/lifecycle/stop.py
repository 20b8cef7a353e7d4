"""Stopping the agent task, when nothing will wait for it any more."""

from __future__ import annotations

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.commands import Flow, StopTask, warn_on_failure, warning
from airflow_agent_tasks.lifecycle.execution import Execution


def stop(execution: Execution) -> Flow[tuple[AgentTask | None, str]]:
    """
    Stop the agent task.

    :return: The agent task as the service then describes it, or None where stopping failed; and what happened
        to it, as a sentence. It may have completed just before, and holds a result then.
    """
    # Where that fails it is stopped all the same: what nothing waits for costs money.
    yield from warn_on_failure(execution.mark(is_stopping=True))
    try:
        task = yield from StopTask(execution.started)
    except AgentTaskError as error:
        return None, f"Stopping it failed, so it may still be running: {error}"
    if task.status is TaskState.COMPLETED:
        return task, "It had completed just before; the next try takes its result."
    # What was stopped is over: the next try starts a new one, also where stopping is no more than a pause.
    yield from warn_on_failure(execution.drop())
    return task, f"It was stopped: {task}."


def stop_on_execution_timeout(execution: Execution) -> Flow[None]:
    """
    Do what ``on_timeout`` says, once Airflow's ``execution_timeout`` has passed, wherever that was.

    What to stop is in the record: the execution may not have come to it yet, or be about to start another.
    """
    if execution.settings.on_timeout != "stop":
        return
    submission = yield from warn_on_failure(execution.load())
    started = submission.started if submission else execution.last_started
    if started is None:
        return
    yield from execution.adopt(started)
    fate = (yield from stop(execution))[1]
    yield from warning("The execution_timeout of %s passed. %s", execution.name, fate)


def stop_or_leave(execution: Execution) -> Flow[tuple[AgentTask | None, str]]:
    """Do what ``on_timeout`` says; returns what :func:`stop` returns, with None where it was left running."""
    if execution.settings.on_timeout == "stop":
        return (yield from stop(execution))
    return None, (yield from execution.leave())
