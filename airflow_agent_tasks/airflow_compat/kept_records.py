"""
Keeps the record of an agent task when its Airflow task is cleared. Only for Airflow 3.4 and later.

Airflow 3.4 discards the state of a task that is cleared over REST or in the UI, so that it starts over. That
includes the record of the agent task; without it, the next try would start a second agent task beside the
first.
"""

from __future__ import annotations

from contextlib import suppress

from airflow.models.task_state_store import TaskStateStoreModel
from sqlalchemy import Column, event
from sqlalchemy.orm import ORMExecuteState, Session
from sqlalchemy.sql import visitors

from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY

#: The columns that identify one task in the statement that discards its state.
_OF_ONE_TASK = {"dag_id", "run_id", "task_id"}


def keep_records() -> None:
    """From now on, keep the records in the database when this process discards a task's state."""
    if not event.contains(Session, "do_orm_execute", _spare_record):
        event.listen(Session, "do_orm_execute", _spare_record)


def find_fault() -> str | None:
    """
    Return a fault if Airflow's state store deletes a task's rows in a way that this module cannot intercept.

    This is tried with a session that has no database.
    """
    # Imported here: keeping the records does not need them.
    from airflow.state import TaskScope
    from airflow.state.metastore import _get_db_backend

    backend = _get_db_backend()
    compared: set[str] = set()

    def note(execution: ORMExecuteState) -> None:
        if execution.is_delete:
            _spare_record(execution)
            compared.update(_list_columns(execution))
        raise _SeenError

    with Session() as session:
        event.listen(session, "do_orm_execute", note)
        with suppress(_SeenError):
            backend.clear(TaskScope(dag_id="a DAG", run_id="a run", task_id="a task"), session=session)
    if "key" in compared:
        return None
    return f"{type(backend).__name__}.clear does not delete a task's rows as expected"


class _SeenError(Exception):
    """Ends a clear before it needs a database."""


def _spare_record(execution: ORMExecuteState) -> None:
    # Airflow itself hides the rows of earlier tries with the same SQLAlchemy event.
    if not execution.is_delete or execution.bind_mapper is not TaskStateStoreModel.__mapper__:
        return
    columns = _list_columns(execution)
    # A statement that names the key may delete the record: this package sends one after a success, and so
    # may a user.
    if columns >= _OF_ONE_TASK and "key" not in columns:
        execution.statement = execution.statement.where(TaskStateStoreModel.key != RECORD_KEY)  # type: ignore[attr-defined]


def _list_columns(execution: ORMExecuteState) -> set[str]:
    """Return the names of the columns that a statement's condition compares."""
    where = execution.statement.whereclause  # type: ignore[attr-defined]
    return {node.name for node in visitors.iterate(where) if isinstance(node, Column)}
