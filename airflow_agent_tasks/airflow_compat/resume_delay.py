"""
Returns how long the API server must wait before it resumes a deferred or parked task.

The worker may report up to ``[workers] min_heartbeat_interval`` seconds late that the task has left it. If
the task has already resumed by then, the scheduler of Airflow 3.3 fails it.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.jobs.job import Job
from airflow.models.taskinstance import TaskInstance
from airflow.sdk import conf
from sqlalchemy import Select, and_, select

from airflow_agent_tasks.airflow_compat.resume_timing import read_resume_guard

#: Seconds for one iteration of the scheduler's loop, in which it reads its workers' reports.
LOOP_SECONDS = 1.0
#: Seconds by which the scheduler's heartbeat may be late; if it is later, it may read reports late too.
HEARTBEAT_GRACE = 1.5


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
