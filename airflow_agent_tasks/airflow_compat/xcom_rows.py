"""The XCom of a task as rows of Airflow's database; for the API server and the scheduler."""

from __future__ import annotations

from typing import Any

from airflow.models.xcom import XComModel
from airflow.utils.session import create_session

from airflow_agent_tasks.agent_task import STATUS_KEY, AgentTask, TaskState
from airflow_agent_tasks.airflow_compat.ended_tasks import EndedTask


def note_end(ended: EndedTask, task: AgentTask) -> None:
    """
    Write the status of an agent task into the XCom of its Airflow task, which has no worker or trigger.

    Without this, XCom would show a running agent forever. Nothing is written for a task that pushes no XCom,
    or stores it elsewhere.
    """
    scope = ended.scope
    # Airflow 3.4 renamed the field that identifies a mapped task, but not here.
    names: dict[str, Any] = {"region_id": scope.region_id} if hasattr(scope, "region_id") else {}
    query = XComModel.get_many(
        key=STATUS_KEY,
        run_id=scope.run_id,
        dag_ids=scope.dag_id,
        task_ids=scope.task_id,
        map_indexes=scope.map_index,
        **names,
    )
    with create_session() as session:
        row = session.scalars(query).first()
        if row is None or row.value not in [state.value for state in TaskState]:
            return
        XComModel.set(
            STATUS_KEY,
            task.status.value,
            dag_id=scope.dag_id,
            run_id=scope.run_id,
            task_id=scope.task_id,
            map_index=scope.map_index,
            serialize=False,  # as a worker stores it
            session=session,
            **names,
        )
