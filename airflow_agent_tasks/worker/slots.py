"""Takes a slot of the connection for a task."""

from __future__ import annotations

from typing import Any

from airflow_agent_tasks.airflow_compat.api_server import order_plugin
from airflow_agent_tasks.airflow_compat.slot_orders import PATH
from airflow_agent_tasks.documentation import link
from airflow_agent_tasks.errors import AgentTaskError, AgentTaskUnavailableError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.logger_protocol import Log


def take_slot(hook: AgentTaskHook, task_instance: Any, log: Log) -> bool:
    """
    Take a slot of a connection for a task; return False if it has to wait for one.

    :param hook: The hook of the connection.
    :param task_instance: The Airflow task instance.
    :param log: The task's log.
    :raises AgentTaskCancelledError: if the Airflow task no longer runs.
    :raises AgentTaskError: if this package's plugin in the API server cannot be reached.
    """
    limit = hook.settings.max_concurrent_tasks
    if limit is None:
        return True
    # Imported here, because it imports what every DAG file would pay for.
    from airflow_agent_tasks.airflow_compat.supervisor import is_in_process

    if is_in_process():
        log.info("max_concurrent_tasks of connection %r does not apply to dag.test().", hook.conn_id)
        return True
    order = {
        "do": "take slot",
        "conn_id": hook.conn_id,
        "limit": limit,
        "task_instance_id": str(task_instance.id),
    }
    try:
        return order_plugin(PATH, "take a slot", order).get("has_slot") is True
    except AgentTaskUnavailableError as error:
        raise AgentTaskError(
            f"The agent task was not started: connection {hook.conn_id!r} has max_concurrent_tasks, but this "
            "package's plugin in Airflow's API server, which counts them, cannot be reached. See "
            f"{link('how-to/limit-concurrency#what-your-deployment-needs')} {error}"
        ) from None
