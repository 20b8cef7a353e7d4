"""Stops an agent task from outside of its Airflow task."""

from __future__ import annotations

import time

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.lifecycle.stop import PAUSES_BEFORE_LOOKS


def stop_if_active(
    hook: AgentTaskHook, task_id: str, agent_id: str | None
) -> tuple[AgentTask, AgentTask | None]:
    """
    Stop an agent task unless it has ended.

    :return: The agent task, which still runs if the service accepts the stop and does not carry it out within
        a few seconds; and what it was before: the same if it had ended, None if the service did not say.
    :raises AgentTaskError: if the service rejected a request.
    """
    try:
        seen = hook.get_task(task_id, agent_id, has_result=False)
    except AgentTaskError as error:
        if not error.is_transient:
            raise
        seen = None
    if seen and seen.is_terminal:
        return seen, seen
    task = hook.stop_task(task_id, agent_id)
    for seconds in PAUSES_BEFORE_LOOKS:
        if task.is_stopped:
            break
        time.sleep(seconds)
        task = hook.get_task(task_id, agent_id, has_result=False)
    return task, seen
