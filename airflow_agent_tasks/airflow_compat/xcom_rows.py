"""The XCom of a task as rows of Airflow's database; for the API server and the scheduler."""

from __future__ import annotations

from typing import Any

from airflow.models.xcom import XComModel
from airflow.state import TaskScope
from airflow.utils.session import create_session
from sqlalchemy.orm import Session

from airflow_agent_tasks.agent_task import QUESTION_LINK_KEY, STATUS_KEY, AgentTask, TaskState


def write_status(scope: TaskScope, task: AgentTask) -> None:
    """
    Write the status of an agent task into the XCom of its Airflow task.

    Nothing is written for a task that pushes no XCom, or stores it elsewhere.
    """
    with create_session() as session:
        if _read(scope, STATUS_KEY, session) in [state.value for state in TaskState]:
            _write(scope, STATUS_KEY, task.status.value, session)


def note_end(scope: TaskScope, task: AgentTask) -> None:
    """
    Write the final status of an agent task whose Airflow task has no worker or trigger that could.

    Without this, XCom would show a running agent forever, and the task's page would link to its question.
    """
    write_status(scope, task)
    with create_session() as session:
        if _read(scope, QUESTION_LINK_KEY, session):
            # Not deleted, for which the supported versions have no common call; an empty link is not shown.
            _write(scope, QUESTION_LINK_KEY, "", session)


def _read(scope: TaskScope, key: str, session: Session) -> Any:
    query = XComModel.get_many(
        key=key,
        run_id=scope.run_id,
        dag_ids=scope.dag_id,
        task_ids=scope.task_id,
        map_indexes=scope.map_index,
        **_name_region(scope),
    )
    row = session.scalars(query).first()
    return row.value if row else None


def _write(scope: TaskScope, key: str, value: str, session: Session) -> None:
    XComModel.set(
        key,
        value,
        dag_id=scope.dag_id,
        run_id=scope.run_id,
        task_id=scope.task_id,
        map_index=scope.map_index,
        serialize=False,  # as a worker stores it
        session=session,
        **_name_region(scope),
    )


def _name_region(scope: TaskScope) -> dict[str, Any]:
    # Airflow 3.4 renamed the field that identifies a mapped task, but not here.
    return {"region_id": scope.region_id} if hasattr(scope, "region_id") else {}
