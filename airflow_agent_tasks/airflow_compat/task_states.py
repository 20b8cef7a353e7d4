"""The states of Airflow task instances. Imports nothing heavy: every Airflow process imports this module."""

from __future__ import annotations

from typing import Any

from airflow_agent_tasks.logger_protocol import Log

#: States that a task instance leaves only by a clear: it ended, or a user or its DAG run's timeout ended it.
FINAL_STATES = frozenset({"failed", "success", "skipped", "removed", "upstream_failed"})


def is_database_row(component: Any) -> bool:
    """
    Return whether a listener got this object from the API server or the scheduler, rather than from a worker.

    Their classes differ: a server's task instances are rows of its database.
    """
    # By SQLAlchemy's attribute rather than the class: importing the class would cost a worker seconds.
    return hasattr(type(component), "__mapper__")


def read_state(task_instance: Any, log: Log) -> str | None:
    """Return the task instance's state, or None if Airflow does not report it; for a worker. Never raises."""
    try:
        return _pick(task_instance.get_task_states(**_build_query(task_instance)), task_instance)
    except Exception as error:
        log.warning("Airflow did not report the task's state: %s", error)
        return None


async def aread_state(task_instance: Any) -> str | None:
    """
    Return the task instance's state, or None if it is not found; for a trigger.

    :raises Exception: whatever Airflow's client raises.
    """
    # Imported here, because every DAG file imports this module.
    from airflow_agent_tasks.airflow_compat.supervisor import aget_task_states

    return _pick(await aget_task_states(**_build_query(task_instance)), task_instance)


def _build_query(task_instance: Any) -> dict[str, Any]:
    return {
        "dag_id": task_instance.dag_id,
        "run_ids": [task_instance.run_id],
        "task_ids": [task_instance.task_id],
        "map_index": task_instance.map_index,
    }


def _pick(states: dict[str, Any], task_instance: Any) -> str | None:
    label = task_instance.task_id
    if task_instance.map_index is not None and task_instance.map_index >= 0:
        label = f"{label}_{task_instance.map_index}"
    state = states.get(task_instance.run_id, {}).get(label)
    return None if state is None else str(getattr(state, "value", state))
