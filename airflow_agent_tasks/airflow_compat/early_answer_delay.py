"""
Only for Airflow 3.3; delete with the first version whose scheduler accepts every early resume.

Airflow 3.4 accepts one while the task is still queued, but may fail a task that runs again already.
For how long an answer to a parked task must be delayed, so that the scheduler knows that its worker has left.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.jobs.job import Job
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select

from airflow_agent_tasks.airflow_compat.resume_timing import read_resume_guard
from airflow_agent_tasks.lifecycle.question_form import OPTIONS

#: A scheduler without a heartbeat for this long counts as dead.
SCHEDULER_ALIVE = timedelta(seconds=30)
#: States of a task whose worker may not have left yet; an answer resumes a deferred task, too.
DELAYED_STATES = ("running", "deferred", "awaiting_input")


def read_answer_delay(dag_id: str, run_id: str, task_id: str, map_index: str) -> float:
    """
    Return the seconds after which to look again before an answer goes on to Airflow; 0.0 if it may go now.

    Only answers to forms of this package are delayed.
    """
    query = (
        select(TaskInstance.state, TaskInstance.updated_at, HITLDetail.options)
        .filter_by(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=int(map_index))
        .join(HITLDetail, HITLDetail.ti_id == TaskInstance.id)
    )
    now = datetime.now(timezone.utc)
    schedulers = select(Job.latest_heartbeat).where(
        Job.job_type == "SchedulerJob", Job.state == "running", Job.latest_heartbeat > now - SCHEDULER_ALIVE
    )
    with create_session() as session:
        row = session.execute(query).one_or_none()
        heartbeats = session.scalars(schedulers).all()
    if row is None or tuple(row.options) != OPTIONS or row.state not in DELAYED_STATES:
        return 0.0
    if row.state == "running":  # about to park
        return 1.0
    left_at = row.updated_at + timedelta(seconds=read_resume_guard())
    if (seconds := (left_at - datetime.now(timezone.utc)).total_seconds()) > 0:
        return float(seconds)
    # A scheduler's heartbeat follows its workers' reports; a busy scheduler is late with both.
    return 1.0 if any(beat is not None and beat < left_at for beat in heartbeats) else 0.0
