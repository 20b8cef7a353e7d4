"""
Only for schedulers that fail a task that resumes early; delete with the last executor that needs it.

On Airflow 3.3 that is LocalExecutor, and every executor of which nothing is known. CeleryExecutor forgets an
earlier run of a task when it queues the next, and Airflow 3.4's LocalExecutor counts them: no delay there.

For how long an answer to a parked task must be delayed, so that the scheduler knows that its worker has left.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.executors.executor_loader import ExecutorLoader
from airflow.executors.local_executor import LocalExecutor
from airflow.jobs.job import Job
from airflow.models.taskinstance import TaskInstance
from airflow.sdk import conf
from airflow.utils.session import create_session
from sqlalchemy import and_, select

from airflow_agent_tasks.airflow_compat.open_forms import TaskKey
from airflow_agent_tasks.airflow_compat.resume_timing import read_resume_guard

#: Seconds for one turn of the scheduler's loop, in which it reads its workers' reports.
LOOP_SECONDS = 1.0
#: Seconds by which the scheduler's heartbeat may be late; if it is later, so may be the reading of reports.
HEARTBEAT_GRACE = 1.5
#: States of a task whose worker may not have left yet; an answer resumes a deferred task, too.
DELAYED_STATES = ("running", "deferred", "awaiting_input")
LOCAL_EXECUTOR = f"{LocalExecutor.__module__}.{LocalExecutor.__name__}"
CELERY_EXECUTOR = "airflow.providers.celery.executors.celery_executor.CeleryExecutor"


def accepts_early_resumes() -> bool:
    """Return True if no executor of this Airflow takes the end of a task's earlier run for a later one's."""
    accepting = {CELERY_EXECUTOR}
    if hasattr(LocalExecutor, "_finish_dispatch"):
        accepting.add(LOCAL_EXECUTOR)
    return all(name.module_path in accepting for name in ExecutorLoader.get_executor_names())


def read_answer_delay(key: TaskKey) -> float:
    """
    Return the seconds after which to look again before an answer goes on to Airflow; 0.0 if it may go now.

    :param key: The task, whose form is one of this package.
    """
    # Of several schedulers, only the one that queued the task receives its worker's report.
    query = (
        select(TaskInstance.state, TaskInstance.updated_at, Job.latest_heartbeat)
        .outerjoin(Job, and_(Job.id == TaskInstance.queued_by_job_id, Job.state == "running"))
        .filter(*key.build_filters())
    )
    with create_session() as session:
        row = session.execute(query).first()
    if row is None or row.state not in DELAYED_STATES:
        return 0.0
    if row.state == "running":  # about to park
        return 1.0
    left_at = row.updated_at + timedelta(seconds=read_resume_guard())
    now = datetime.now(timezone.utc)
    if (seconds := (left_at - now).total_seconds() + LOOP_SECONDS) > 0:
        return float(seconds)
    return 1.0 if _is_late(row.latest_heartbeat, left_at, now) else 0.0


def _is_late(beat: datetime | None, left_at: datetime, now: datetime) -> bool:
    """Return True if a scheduler that lives may be too busy to have read the reports of ``left_at``."""
    if beat is None or beat >= left_at:
        return False
    usual = conf.getfloat("scheduler", "scheduler_heartbeat_sec") + HEARTBEAT_GRACE
    dead = conf.getfloat("scheduler", "scheduler_health_check_threshold")
    return usual < (now - beat).total_seconds() < dead
