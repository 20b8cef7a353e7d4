"""
Returns how long to delay an answer to a parked task, until the scheduler has seen the worker's exit.

Only for executors with which the scheduler fails a task that resumes early; delete with the last of them. On
Airflow 3.3 these are LocalExecutor and all unknown executors. CeleryExecutor forgets an earlier run of a task
when it queues the next one, and the LocalExecutor of Airflow 3.4 counts a task's runs, so neither needs a
delay.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.executors.executor_loader import ExecutorLoader
from airflow.executors.local_executor import LocalExecutor
from airflow.jobs.job import Job
from airflow.models.taskinstance import TaskInstance
from airflow.sdk import conf
from airflow.utils.session import create_session
from sqlalchemy import Select, and_, select

from airflow_agent_tasks.airflow_compat.open_forms import TaskKey
from airflow_agent_tasks.airflow_compat.resume_timing import read_resume_guard

#: Seconds for one iteration of the scheduler's loop, in which it reads its workers' reports.
LOOP_SECONDS = 1.0
#: Seconds by which the scheduler's heartbeat may be late; if it is later, it may read reports late too.
HEARTBEAT_GRACE = 1.5
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


def select_timing(*columns: Any) -> Select[Any]:
    """Return a query of task instances for what ``measure_resume_delay`` needs, and for more columns."""
    # Of several schedulers, only the one that queued the task receives its worker's report.
    return select(TaskInstance.state, TaskInstance.updated_at, Job.latest_heartbeat, *columns).outerjoin(
        Job, and_(Job.id == TaskInstance.queued_by_job_id, Job.state == "running")
    )


def measure_resume_delay(row: Any) -> float:
    """
    Return the seconds after which to check again whether a deferred or parked task may resume; 0.0 for now.

    :param row: A row of ``select_timing``.
    """
    left_at = row.updated_at + timedelta(seconds=read_resume_guard())
    now = datetime.now(timezone.utc)
    if (seconds := (left_at - now).total_seconds() + LOOP_SECONDS) > 0:
        return float(seconds)
    return 1.0 if _is_late(row.latest_heartbeat, left_at, now) else 0.0


def _is_late(beat: datetime | None, left_at: datetime, now: datetime) -> bool:
    """Return whether a live scheduler may have been too busy to read the reports due by ``left_at``."""
    if beat is None or beat >= left_at:
        return False
    usual = conf.getfloat("scheduler", "scheduler_heartbeat_sec") + HEARTBEAT_GRACE
    dead = conf.getfloat("scheduler", "scheduler_health_check_threshold")
    return usual < (now - beat).total_seconds() < dead
