"""
Only for Airflow 3.4 and later; keeps the record of an agent task when its Airflow task is cleared.

Airflow 3.4 discards the state of a task that is cleared over REST or in the UI, so that it starts over. For
an agent task that takes the record: without it, the next try would start a second one beside the first.
"""

from __future__ import annotations

from airflow.models.task_state_store import TaskStateStoreModel
from sqlalchemy import Column, event
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.sql import visitors

from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY

#: What names one task in the statement that discards its state.
_OF_ONE_TASK = {"dag_id", "run_id", "task_id"}


def keep_records() -> None:
    """Keep the records in the database from now on, whatever else of a task's state this process discards."""
    if not event.contains(Session, "do_orm_execute", _spare_record):
        event.listen(Session, "do_orm_execute", _spare_record)


def _spare_record(execution: ORMExecuteState) -> None:
    # Airflow itself hides the rows of earlier tries by the same event of SQLAlchemy.
    if not execution.is_delete or execution.bind_mapper is not TaskStateStoreModel.__mapper__:
        return
    where = execution.statement.whereclause  # type: ignore[attr-defined]
    columns = {node.name for node in visitors.iterate(where) if isinstance(node, Column)}
    # A key that is named is deleted: the package does so after a success, and a user may.
    if columns >= _OF_ONE_TASK and "key" not in columns:
        execution.statement = execution.statement.where(TaskStateStoreModel.key != RECORD_KEY)  # type: ignore[attr-defined]
