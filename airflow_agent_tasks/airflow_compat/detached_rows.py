"""Agents of a connection that may be at work although no execution awaits them. For the API server only."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from airflow.models.task_state_store import TaskStateStoreModel
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import ColumnElement, and_, or_, select, update

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.airflow_compat.ended_tasks import HAS_NOT_ENDED, IS_OF_TASK, IS_OPEN, read_json
from airflow_agent_tasks.airflow_compat.submission_rows import MAY_BE_ACTIVE
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY, Submission

#: The states of a task with an execution that waits for its agent, on a worker or without.
ATTACHED = ("running", "deferred", "awaiting_input")


@dataclass(frozen=True)
class Detached:
    """
    An agent task that may be running although no execution of its Airflow task waits for it.

    :param row_id: The id of the row with its record.
    :param value: What the row contains.
    :param record: The record.
    """

    row_id: int
    value: str
    record: Submission


#: Returns whether such an agent task is active.
IsActive = Callable[[Detached], bool]


def is_record_of(conn_id: str) -> ColumnElement[bool]:
    """Return the condition that a row is an open record that has the name of the connection somewhere."""
    named = TaskStateStoreModel.value.contains(f'"conn_id": {json.dumps(conn_id)}', autoescape=True)
    return and_(TaskStateStoreModel.key == RECORD_KEY, IS_OPEN, named)


def list_detached(session: Any, conn_id: str, holders: Container[UUID]) -> Iterator[Detached]:
    """
    Yield the agent tasks of a connection that no execution awaits.

    :param holders: The task instances whose agents count anyway.
    """
    store = TaskStateStoreModel
    is_detached = or_(TaskInstance.state.is_(None), TaskInstance.state.not_in(ATTACHED))
    query = select(store.id.label("row_id"), store.value, TaskInstance.id).outerjoin(TaskInstance, IS_OF_TASK)
    query = query.where(is_record_of(conn_id), is_detached, MAY_BE_ACTIVE)
    for row in session.execute(query):
        with suppress(AgentTaskError):
            record = Submission.from_json(read_json(row.value))
            # One that is about to resume has the slot of its task.
            if record.task_id and record.conn_id == conn_id and row.id not in holders:
                yield Detached(row.row_id, row.value, record)


def close_record(detached: Detached, task: AgentTask) -> None:
    """
    Close the record of an agent task that has ended, unless a try may come for its result.

    :param task: The agent task as its service describes it.
    """
    record, store = detached.record, TaskStateStoreModel
    if record.started is None or record.is_undelivered:
        return
    closed = Submission.build_closed(record.started, task, record.conn_id)
    try_to_come = select(TaskInstance.id).where(IS_OF_TASK, HAS_NOT_ENDED)
    row = update(store).where(
        store.id == detached.row_id, store.value == detached.value, ~try_to_come.exists()
    )
    with create_session(scoped=False) as session:
        values = row.values(value=json.dumps(closed.to_json()))
        session.execute(values, execution_options={"synchronize_session": False})
