"""Marks an Airflow task as failed, as the Airflow UI does; for the API server and for commands."""

from __future__ import annotations

import logging
from typing import Any

from airflow.listeners.listener import get_listener_manager
from airflow.models.dagbag import DBDagBag
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import update

from airflow_agent_tasks.airflow_compat.ended_tasks import HAS_NOT_ENDED, SCOPE_NAMES
from airflow_agent_tasks.airflow_compat.submission_rows import SubmissionRow
from airflow_agent_tasks.errors import AgentTaskError

log = logging.getLogger(__name__)


def mark_failed(row: SubmissionRow) -> bool:
    """
    Mark the task as failed, so that no try follows, and notify the listeners.

    :return: False if the task has ended meanwhile.
    :raises AgentTaskError: if Airflow cannot mark it, because its DAG no longer has it.
    """
    with create_session() as session:
        dag = DBDagBag().get_latest_version_of_dag(row.scope.dag_id, session=session)
        if dag is None or not dag.has_task(row.scope.task_id):
            raise AgentTaskError(f"Airflow cannot mark {row} as failed, because its DAG no longer has it.")
        # Locked on every database, and read again: Airflow would turn a success into a failure.
        same_task = [getattr(TaskInstance, name) == getattr(row.scope, name) for name in SCOPE_NAMES]
        lock = update(TaskInstance).where(*same_task, HAS_NOT_ENDED).values(state=TaskInstance.state)
        locked: Any = session.execute(lock.execution_options(synchronize_session=False))
        if not locked.rowcount:
            return False
        marked = dag.set_task_instance_state(
            task_id=row.scope.task_id,
            run_id=row.scope.run_id,
            map_indexes=[row.scope.map_index],
            state=TaskInstanceState.FAILED,
            commit=True,
            session=session,
        )
        for task_instance in marked:
            _notify(task_instance)
        return bool(marked)


def _notify(task_instance: object) -> None:
    try:
        get_listener_manager().hook.on_task_instance_failed(
            previous_state=None, task_instance=task_instance, error="Its agent task was stopped by a user."
        )
    except Exception:  # of another package's listener
        log.exception("A listener failed")
