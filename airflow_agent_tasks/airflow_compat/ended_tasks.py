"""
Airflow tasks that the API server or the scheduler has ended, and the agent tasks that they abandon.

Both processes have loaded nearly all of these imports anyway. No worker imports this module.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from airflow.models.dagrun import DagRun
from airflow.models.task_state_store import TaskStateStoreModel
from airflow.models.taskinstance import TaskInstance
from airflow.state import TaskScope, get_state_backend
from airflow.utils.session import create_session
from airflow.utils.state import State
from sqlalchemy import and_, or_, select

from airflow_agent_tasks.airflow_compat.task_states import FINAL_STATES
from airflow_agent_tasks.lifecycle.submission_record import CLOSED_PREFIX, RECORD_KEY, Submission

#: The field that tells the instances of a mapped task apart; Airflow 3.4 renamed it.
_INDEXES = ("region_id", "region_index") if hasattr(TaskStateStoreModel, "region_id") else ("map_index",)
#: What identifies a task in its row and in the scope of its state.
SCOPE_NAMES = ("dag_id", "run_id", "task_id", *_INDEXES)
#: The condition that a row of the state store is of the task of a row of tasks. Built on import, so that the
#: check at startup also finds a column that Airflow has renamed.
IS_OF_TASK = and_(
    *(getattr(TaskInstance, name) == getattr(TaskStateStoreModel, name) for name in SCOPE_NAMES)
)
#: The condition that a record is open.
IS_OPEN = ~TaskStateStoreModel.value.startswith(CLOSED_PREFIX, autoescape=True)
#: The condition that an Airflow task has not ended; one without a state has not been scheduled yet.
HAS_NOT_ENDED = or_(TaskInstance.state.is_(None), TaskInstance.state.not_in(FINAL_STATES))
#: Airflow's word in the row of a task that a clear has replaced with another.
REPLACED = "superseded"


@dataclass(frozen=True)
class EndedTask:
    """
    An Airflow task that has ended outside a worker.

    :param task_instance_id: The id of its row.
    :param scope: The scope of its state in Airflow's state store.
    :param max_tries: Airflow's ``max_tries``.
    :param state: The state in which it ended, or ``REPLACED``.
    """

    task_instance_id: UUID
    scope: TaskScope
    max_tries: int
    state: str

    @classmethod
    def from_row(cls, row: Any, state: str) -> EndedTask:
        """Return the task that a row of Airflow's table describes."""
        return cls(row.id, build_scope(row), row.max_tries, state)

    def __str__(self) -> str:
        return f"Task {name_task(self.scope)}, ended as {self.state}"


def name_task(scope: TaskScope) -> str:
    """Return the name of a task for messages: "research[3] of DAG companies, run manual"."""
    index = f"[{scope.map_index}]" if scope.map_index >= 0 else ""
    return f"{scope.task_id}{index} of DAG {scope.dag_id}, run {scope.run_id}"


def read_json(value: Any) -> Any:
    """Return what a stored text holds as JSON, or the value itself."""
    try:
        return json.loads(value)
    except (ValueError, TypeError, RecursionError):
        return value


def build_scope(row: Any) -> TaskScope:
    """Return the scope of a task's state, from a row with the task's names."""
    return TaskScope(**{name: getattr(row, name) for name in SCOPE_NAMES})


def read_record(ended: EndedTask) -> Submission | None:
    """Return the record of the task's agent task, or None; raises AgentTaskError if it is damaged."""
    return find_record(ended.scope)


def find_record(scope: TaskScope) -> Submission | None:
    """Return the open record in a scope, or None; raises AgentTaskError if it is damaged."""
    stored: Any = get_state_backend().get(scope, RECORD_KEY)
    if stored is None:
        return None
    record = Submission.from_json(read_json(stored))
    return None if record.is_closed else record


def is_committed(ended: EndedTask) -> bool:
    """Return whether the database shows the end of this task to other sessions too."""
    # Airflow 3.4 hides the rows of earlier tries otherwise.
    every_try = {"include_all_attempts": True}
    query = select(TaskInstance).filter_by(id=ended.task_instance_id).execution_options(**every_try)
    with create_session() as session:
        row = session.scalar(query)
    if row is None or row.max_tries != ended.max_tries:
        return False
    state = row.archived_reason if ended.state == REPLACED else row.state
    return str(getattr(state, "value", state)) == ended.state


def has_run_ended(dag_id: str, run_id: str) -> bool:
    """Return whether the database shows the end of the DAG run to other sessions too."""
    with create_session() as session:
        state = session.scalar(select(DagRun.state).filter_by(dag_id=dag_id, run_id=run_id))
    return state in State.finished_dr_states


def has_records(dag_id: str, run_id: str) -> bool:
    """Return whether a DAG run has an agent task whose record is open."""
    query = select(TaskStateStoreModel.id).filter_by(dag_id=dag_id, run_id=run_id, key=RECORD_KEY)
    query = query.where(IS_OPEN).limit(1)
    # A separate session: a listener calls this while the thread's session is in use.
    with create_session(scoped=False) as session:
        return session.scalar(query) is not None


def list_passed_over(dag_id: str, run_id: str) -> list[EndedTask]:
    """
    Return a DAG run's tasks that have a record of an agent task and ended without notifying a listener.

    They were skipped when the run ended, removed from the DAG or from a mapped task that has shrunk, or not
    started again after a clear, because a task before them failed.
    """
    query = (
        select(TaskInstance)
        .join(TaskStateStoreModel, and_(IS_OF_TASK, TaskStateStoreModel.key == RECORD_KEY))
        .filter(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
        .filter(TaskInstance.state.in_(("skipped", "removed", "upstream_failed")))
    )
    with create_session() as session:
        return [EndedTask.from_row(row, str(row.state)) for row in session.scalars(query).unique()]
