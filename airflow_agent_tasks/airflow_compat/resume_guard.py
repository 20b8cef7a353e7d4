"""For how long a task that has left its worker must stay away; nothing heavy, for the API server asks too."""

from __future__ import annotations

from airflow.sdk import conf

#: Seconds that the scheduler gets, beyond the worker's own delay, to hear that a task has left its worker.
SCHEDULER_DELAY = 1.0


def read_shortest_absence() -> float:
    """
    Return the seconds for which a task that has left its worker must not come back.

    A worker may report up to ``[workers] min_heartbeat_interval`` late that its task has deferred or parked.
    If the task was resumed by then, the scheduler takes the report for a lie and fails the task.
    """
    return conf.getfloat("workers", "min_heartbeat_interval", fallback=5.0) + SCHEDULER_DELAY
