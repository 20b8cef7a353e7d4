"""Which state Airflow says a task instance is in, asked from a worker or from a trigger."""

from __future__ import annotations

from typing import Any

#: States of a task instance that nobody leaves but by a clear: it was marked, or its DAG run timed out.
FINAL_STATES = frozenset({"failed", "success", "skipped", "removed"})


def has_next_try(task_instance: Any) -> bool:
    """Tell whether Airflow will try again after a failure."""
    return bool(task_instance.try_number <= task_instance.max_tries)


def read_state(task_instance: Any) -> str | None:
    """Ask Airflow for the task instance's state, from a worker; raises what Airflow's client raises."""
    states = task_instance.get_task_states(**_build_query(task_instance))
    return _pick(states, task_instance)


async def aread_state(task_instance: Any) -> str | None:
    """Ask Airflow for the task instance's state, from a trigger; raises what Airflow's client raises."""
    # Imported here: every DAG file would pay for it, and Airflow sets the channel only when the process runs.
    from airflow.sdk.execution_time.comms import GetTaskStates
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    reply: Any = await SUPERVISOR_COMMS.asend(GetTaskStates(**_build_query(task_instance)))
    return _pick(reply.task_states, task_instance)


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
