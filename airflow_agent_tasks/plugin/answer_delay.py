"""
Holds an answer back until the worker that asked has surely left.

Airflow resumes a parked task the moment it is answered. The worker may report up to ``[workers]
min_heartbeat_interval`` late that it is done with the task, and the scheduler then fails a task that was
resumed before: somebody who waits for the next question, and is quick, would end the whole work.
Every Airflow process imports this module, so it imports what it needs only when somebody answers; all of that
is light, or loaded in an API server anyway.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from datetime import timedelta
from typing import Any

log = logging.getLogger(__name__)

#: A scheduler that has not told its heartbeat for so long lives no more.
SCHEDULER_ALIVE = timedelta(seconds=30)
#: Seconds after which an answer is let through, beyond those that the worker may need to leave.
LONGEST_HOLD = 20.0
#: The states of a task whose worker may still be there; a deferred one is resumed by an answer, too.
HELD_IN = ("running", "deferred", "awaiting_input")
_PATH = re.compile(
    "/api/v2/dags/(?P<dag_id>[^/]+)/dagRuns/(?P<run_id>[^/]+)/taskInstances/(?P<task_id>[^/]+)"
    "/(?P<map_index>-?[0-9]+)/hitlDetails"
)


class AnswerHold:
    """
    A middleware of the API server: lets an answer to one of our forms through some seconds later.

    :param app: What answers requests.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_answer = scope["type"] == "http" and scope["method"] == "PATCH"
        if is_answer and (found := _PATH.search(scope["path"])) and _has_credentials(scope):
            try:
                await _hold(found.groupdict())
            except Exception as error:
                log.warning("An answer is let through at once, since its task cannot be seen: %s", error)
        await self._app(scope, receive, send)


def _has_credentials(scope: Any) -> bool:
    """Tell whether Airflow may know who this is: it refuses others, and they are to cost it nothing here."""
    return any(name in (b"authorization", b"cookie") for name, _ in scope["headers"])


async def _hold(place: dict[str, str]) -> None:
    begun_at = time.monotonic()
    while (seconds := await asyncio.to_thread(_seconds_to_hold, **place)) > 0:
        if time.monotonic() - begun_at > seconds + LONGEST_HOLD:
            return
        await asyncio.sleep(min(seconds, 1.0))


def _seconds_to_hold(dag_id: str, run_id: str, task_id: str, map_index: str) -> float:
    from airflow.jobs.job import Job
    from airflow.models.hitl import HITLDetail
    from airflow.models.taskinstance import TaskInstance
    from airflow.sdk import timezone
    from airflow.utils.session import create_session
    from sqlalchemy import select

    from airflow_agent_tasks.airflow_compat.resume_guard import read_resume_guard
    from airflow_agent_tasks.lifecycle.question_form import OPTIONS

    query = (
        select(TaskInstance.state, TaskInstance.updated_at, HITLDetail.options)
        .filter_by(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=int(map_index))
        .join(HITLDetail, HITLDetail.ti_id == TaskInstance.id)
    )
    schedulers = select(Job.latest_heartbeat).where(
        Job.job_type == "SchedulerJob",
        Job.state == "running",
        Job.latest_heartbeat > timezone.utcnow() - SCHEDULER_ALIVE,
    )
    with create_session() as session:
        row = session.execute(query).one_or_none()
        heartbeats = session.scalars(schedulers).all()
    if row is None or tuple(row.options) != OPTIONS or row.state not in HELD_IN:
        return 0.0
    if row.state == "running":  # about to be parked
        return 1.0
    gone_at = row.updated_at + timedelta(seconds=read_resume_guard())
    if (seconds := (gone_at - timezone.utcnow()).total_seconds()) > 0:
        return float(seconds)
    # A scheduler tells its heartbeat after it has heard what its workers report; a busy one is late.
    return 1.0 if any(beat is not None and beat < gone_at for beat in heartbeats) else 0.0
