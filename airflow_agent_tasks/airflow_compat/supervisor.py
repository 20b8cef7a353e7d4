"""
The supervisor of a worker or triggerer, and a trigger's requests to it.

Imported only for a request, because it would slow down DAG files. A triggerer has loaded all of it anyway.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates


async def aget_task_states(**query: Any) -> dict[str, Any]:
    """
    Return the states of task instances, by run id and then by task id.

    :param query: The fields of Airflow's ``GetTaskStates``.
    """
    # Looked up at each call: Airflow sets the channel only when the process runs.
    response: Any = await task_runner.SUPERVISOR_COMMS.asend(GetTaskStates(**query))
    states: dict[str, Any] = response.task_states
    return states


def is_in_process() -> bool:
    """Return whether a worker's task runs in ``dag.test()``, in the process of its own supervisor."""
    comms = getattr(task_runner, "SUPERVISOR_COMMS", None)
    return type(comms).__name__ == "InProcessSupervisorComms"
