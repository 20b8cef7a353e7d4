"""
Resumes the Airflow task that waits for an agent task. For the API server only.

Airflow itself resumes a deferred or parked task in this way when someone answers its form: it writes an event
into the task's row, and leaves its trigger without a task. No triggerer is involved, so this works wherever
the task waits, and on every database.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import handle_event_submit
from airflow.triggers.base import TriggerEvent
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType
from sqlalchemy import and_, select, update
from sqlalchemy.orm import lazyload

from airflow_agent_tasks.airflow_compat.earlier_tries import select_earlier_try
from airflow_agent_tasks.airflow_compat.ended_tasks import SCOPE_NAMES, build_scope, find_record
from airflow_agent_tasks.airflow_compat.resume_delay import select_timing
from airflow_agent_tasks.airflow_compat.version_compat import AIRFLOW_V_3_4_PLUS
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.submission_record import Submission
from airflow_agent_tasks.lifecycle.trigger_event import build_callback_event

#: The states of a task that waits without a worker.
WAITING = ("deferred", "awaiting_input")

_NAMES = [getattr(TaskInstance, name) for name in SCOPE_NAMES]


def find_task(task_instance_id: UUID) -> Any:
    """
    Return the row of the task whose present or earlier try has an id, or None if there is none to resume.

    :return: Its id, names and state, and what ``measure_resume_delay`` needs.
    """
    query = select_timing(TaskInstance.id, *_NAMES).join(
        DagRun, and_(DagRun.dag_id == TaskInstance.dag_id, DagRun.run_id == TaskInstance.run_id)
    )
    # A scheduler would run the resumed task beside dag.test().
    query = query.filter(DagRun.triggered_by.is_distinct_from(DagRunTriggeredByType.TEST))
    with create_session() as session:
        if row := session.execute(query.filter(TaskInstance.id == task_instance_id)).first():
            return row
        names = session.execute(_select_earlier_try(task_instance_id)).first()
        if names is None:
            return None
        conditions = [column == value for column, value in zip(_NAMES, names, strict=True)]
        return session.execute(query.filter(*conditions)).first()


def _select_earlier_try(task_instance_id: UUID) -> Any:
    if AIRFLOW_V_3_4_PLUS:
        tries = select(*_NAMES).where(TaskInstance.id == task_instance_id)
        return tries.execution_options(include_all_attempts=True)
    return select_earlier_try(task_instance_id)


def read_submission(row: Any) -> Submission | None:
    """Return the record of the submission that a task waits for, or None."""
    try:
        return find_record(build_scope(row))
    except AgentTaskError:  # it is damaged; the task's next execution says so
        return None


def resume(row: Any, build_payload: Callable[[int], dict[str, Any]] = build_callback_event) -> bool:
    """
    Resume a waiting task; return False if it has changed since its row was read.

    :param row: A row of ``find_task``.
    :param build_payload: Returns the event for the number of the try; default: that its service has called.
    """
    names = ("id", "state", "updated_at")
    unchanged = [getattr(TaskInstance, name) == getattr(row, name) for name in names]
    # An update locks the row on every database; SQLite ignores SELECT … FOR UPDATE.
    lock = update(TaskInstance).where(*unchanged).values(state=TaskInstance.state)
    with create_session() as session:
        locked: Any = session.execute(lock.execution_options(synchronize_session=False))
        if not locked.rowcount:
            return False
        # Without what Airflow loads with every row: it costs more than the rest.
        task_instance: Any = session.get(
            TaskInstance, row.id, options=(lazyload("*"),), populate_existing=True
        )
        event = TriggerEvent(build_payload(task_instance.try_number))  # type: ignore[no-untyped-call]
        handle_event_submit(event, task_instance=task_instance, session=session)
        return True
