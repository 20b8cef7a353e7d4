"""Stops an agent task from outside of its Airflow task."""

from __future__ import annotations

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook


def stop_if_active(
    hook: AgentTaskHook, task_id: str, agent_id: str | None
) -> tuple[AgentTask, AgentTask | None]:
    """
    Stop an agent task unless it has ended.

    :return: The agent task, and what it was before: the same if it had ended, None if the service did not
        say.
    :raises AgentTaskError: if the service rejected a request, or did not carry out the stop.
    """
    try:
        seen = hook.get_task(task_id, agent_id, has_result=False)
    except AgentTaskError as error:
        if not error.is_transient:
            raise
        seen = None
    if seen and seen.is_terminal:
        return seen, seen
    return hook.stop_task(task_id, agent_id), seen
