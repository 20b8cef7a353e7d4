"""
Returns how long to delay an answer to a parked task, until the scheduler has seen the worker's exit.

Only for executors with which the scheduler fails a task that resumes early; delete with the last of them. On
Airflow 3.3 these are LocalExecutor and all unknown executors. CeleryExecutor forgets an earlier run of a task
when it queues the next one, and the LocalExecutor of Airflow 3.4 counts a task's runs, so neither needs a
delay.
"""

from __future__ import annotations

from airflow.executors.executor_loader import ExecutorLoader
from airflow.executors.local_executor import LocalExecutor
from airflow.utils.session import create_session

from airflow_agent_tasks.airflow_compat.open_forms import TaskKey
from airflow_agent_tasks.airflow_compat.resume_delay import measure_resume_delay, select_timing

#: States of a task whose worker may not have exited yet; an answer also resumes a deferred task.
DELAYED_STATES = ("running", "deferred", "awaiting_input")
LOCAL_EXECUTOR = f"{LocalExecutor.__module__}.{LocalExecutor.__name__}"
CELERY_EXECUTOR = "airflow.providers.celery.executors.celery_executor.CeleryExecutor"


def accepts_early_resumes() -> bool:
    """Return whether every executor here can tell the ends of a task's earlier and later runs apart."""
    accepting = {CELERY_EXECUTOR}
    if hasattr(LocalExecutor, "_finish_dispatch"):
        accepting.add(LOCAL_EXECUTOR)
    return all(name.module_path in accepting for name in ExecutorLoader.get_executor_names())


def read_answer_delay(key: TaskKey) -> float:
    """
    Return the seconds after which to check again whether an answer may proceed; 0.0 if it may proceed now.

    :param key: The task, whose form is one of this package's.
    """
    with create_session() as session:
        row = session.execute(select_timing().filter(*key.build_filters())).first()
    if row is None or row.state not in DELAYED_STATES:
        return 0.0
    return 1.0 if row.state == "running" else measure_resume_delay(row)  # if it runs, it is about to park
