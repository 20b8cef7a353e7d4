"""
Airflow tasks that the API server or the scheduler has ended, and the agent tasks that they leave behind.

Both processes have loaded nearly all of this anyway. No worker imports it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from airflow.models.dagrun import DagRun
from airflow.models.task_state_store import TaskStateStoreModel
from airflow.models.taskinstance import TaskInstance
from airflow.state import TaskScope, get_state_backend
from airflow.utils.session import create_session
from airflow.utils.state import State
from sqlalchemy import and_, select

from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY, Submission

#: Built on import, so that the check at start-up also names a column that Airflow has renamed.
_HAS_RECORD = and_(
    TaskInstance.dag_id == TaskStateStoreModel.dag_id,
    TaskInstance.run_id == TaskStateStoreModel.run_id,
    TaskInstance.task_id == TaskStateStoreModel.task_id,
    TaskInstance.map_index == TaskStateStoreModel.map_index,
    TaskStateStoreModel.key == RECORD_KEY,
)


@dataclass(frozen=True)
class EndedTask:
    """An Airflow task that has ended outside a worker."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    max_tries: int
    state: str

    def __str__(self) -> str:
        index = f"[{self.map_index}]" if self.map_index >= 0 else ""
        return f"Task {self.task_id}{index} of DAG {self.dag_id}, run {self.run_id}, ended as {self.state}"


def read_record(ended: EndedTask) -> Submission | None:
    """Return what the task state store holds of the task's agent task, or None."""
    scope = TaskScope(ended.dag_id, ended.run_id, ended.task_id, ended.map_index)
    stored: Any = get_state_backend().get(scope, RECORD_KEY)
    return None if stored is None else Submission.from_json(json.loads(stored))


def is_committed(ended: EndedTask) -> bool:
    """Return True if the database shows this end to other sessions, too."""
    query = select(TaskInstance.state, TaskInstance.max_tries).filter_by(
        dag_id=ended.dag_id, run_id=ended.run_id, task_id=ended.task_id, map_index=ended.map_index
    )
    with create_session() as session:
        row = session.execute(query).one_or_none()
    state = str(getattr(row.state, "value", row.state)) if row else None
    return row is not None and (state, row.max_tries) == (ended.state, ended.max_tries)


def has_run_ended(dag_id: str, run_id: str) -> bool:
    """Return True if the database shows other sessions, too, that the DAG run has ended."""
    with create_session() as session:
        state = session.scalar(select(DagRun.state).filter_by(dag_id=dag_id, run_id=run_id))
    return state in State.finished_dr_states


def has_records(dag_id: str, run_id: str) -> bool:
    """Return True if a DAG run has agent tasks at all."""
    query = select(TaskStateStoreModel.id).filter_by(dag_id=dag_id, run_id=run_id, key=RECORD_KEY).limit(1)
    # A session of its own: a listener calls this while the thread's session is in use.
    with create_session(scoped=False) as session:
        return session.scalar(query) is not None


def list_skipped(dag_id: str, run_id: str) -> list[EndedTask]:
    """Return a DAG run's skipped tasks that have a record of an agent task."""
    ti = TaskInstance
    query = (
        select(ti.task_id, ti.map_index, ti.max_tries)
        .join(TaskStateStoreModel, _HAS_RECORD)
        .where(ti.dag_id == dag_id, ti.run_id == run_id, ti.state == "skipped")
    )
    with create_session() as session:
        rows = session.execute(query).all()
    return [EndedTask(dag_id, run_id, row.task_id, row.map_index, row.max_tries, "skipped") for row in rows]
