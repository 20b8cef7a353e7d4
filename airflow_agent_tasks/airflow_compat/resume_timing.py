"""How soon and how late a task may resume after it has left its worker. Imports nothing heavy."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import conf

#: Seconds that the scheduler may need after the worker's report to register that a task has left its worker.
SCHEDULER_DELAY = 1.0
#: Seconds from a trigger's deadline until Airflow itself ends the deferral, because no triggerer was alive.
DEFERRAL_GRACE = 30.0


def read_resume_guard() -> float:
    """
    Return the shortest time in seconds between deferring or parking a task and resuming it.

    A worker may report up to ``[workers] min_heartbeat_interval`` seconds late that its task has deferred or
    parked. If the task has already resumed by then, the scheduler sees a mismatch and fails the task.
    """
    return conf.getfloat("workers", "min_heartbeat_interval", fallback=5.0) + SCHEDULER_DELAY


def build_deferral_timeout(deadline: float, *, now: float) -> timedelta:
    """
    Return the ``timeout`` of a deferral whose trigger ends by itself at its deadline.

    :param deadline: The trigger's deadline, in seconds since 1970.
    :param now: The current time, in seconds since 1970.
    """
    return timedelta(seconds=max(0.0, deadline - now) + DEFERRAL_GRACE)
