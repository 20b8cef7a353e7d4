"""The XCom of a task as rows of Airflow's database; for the API server and the scheduler."""

from __future__ import annotations

from typing import Any

from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy.orm import Session

from airflow_agent_tasks.agent_task import QUESTION_LINK_KEY, STATUS_KEY, AgentTask, TaskState
from airflow_agent_tasks.airflow_compat.ended_tasks import EndedTask


def note_end(ended: EndedTask, task: AgentTask) -> None:
    """
    Write the status of an agent task into the XCom of its Airflow task, which has no worker or trigger.

    Without this, XCom would show a running agent forever, and the task's page would link to its question.
    Nothing is written for a task that pushes no XCom, or stores it elsewhere.
    """
    with create_session() as session:
        if _read(ended, STATUS_KEY, session) in [state.value for state in TaskState]:
            _write(ended, STATUS_KEY, task.status.value, session)
        if _read(ended, QUESTION_LINK_KEY, session):
            # Not deleted, for which the supported versions have no common call; an empty link is not shown.
            _write(ended, QUESTION_LINK_KEY, "", session)


def _read(ended: EndedTask, key: str, session: Session) -> Any:
    query = XComModel.get_many(
        key=key,
        run_id=ended.scope.run_id,
        dag_ids=ended.scope.dag_id,
        task_ids=ended.scope.task_id,
        map_indexes=ended.scope.map_index,
        **_name_region(ended),
    )
    row = session.scalars(query).first()
    return row.value if row else None


def _write(ended: EndedTask, key: str, value: str, session: Session) -> None:
    XComModel.set(
        key,
        value,
        dag_id=ended.scope.dag_id,
        run_id=ended.scope.run_id,
        task_id=ended.scope.task_id,
        map_index=ended.scope.map_index,
        serialize=False,  # as a worker stores it
        session=session,
        **_name_region(ended),
    )


def _name_region(ended: EndedTask) -> dict[str, Any]:
    # Airflow 3.4 renamed the field that identifies a mapped task, but not here.
    return {"region_id": ended.scope.region_id} if hasattr(ended.scope, "region_id") else {}
