"""
The slots of a connection with ``max_concurrent_tasks``, in Airflow's database. For the API server only.

A slot is taken by a task to which this module has given one in its present try; by a task that waits for the
agent task that its open record names; and by any other agent task with an open record that its service says
is active. So no slot is ever lost: whatever happens to a worker, its slot is free again once Airflow knows
that. Each task that waits has a row in the task state store; the ids of the rows are the order of the queue.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from airflow.models.dagrun import DagRun
from airflow.models.pool import Pool
from airflow.models.task_state_store import TaskStateStoreModel
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import ColumnElement, String, and_, cast, delete, func, or_, select, update

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.airflow_compat.ended_tasks import (
    HAS_NOT_ENDED,
    IS_OF_TASK,
    IS_OPEN,
    SCOPE_NAMES,
    read_json,
)
from airflow_agent_tasks.airflow_compat.slot_orders import RESUME_METHOD, SlotOrder, TakeSlot
from airflow_agent_tasks.airflow_compat.submission_rows import MAY_BE_ACTIVE
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY, Submission

#: The key of a place in the queue, in Airflow's task state store.
SLOT_KEY = "agent_task_slot"
#: The states of a task between the start of a try and its end.
_PRESENT = ("scheduled", "queued", "running", "restarting", "deferred", "awaiting_input")
#: How long the row of a place is kept; ``airflow state-store clean`` deletes it then.
_KEPT = timedelta(days=30)
#: The number that distinguishes this package's locks in PostgreSQL from others.
_LOCKS = zlib.crc32(b"airflow-agent-tasks") >> 1

#: The condition that a task waits for its slot without a worker.
_RESUMES = and_(TaskInstance.state == "deferred", TaskInstance.next_method == RESUME_METHOD)

#: The states of a task with an execution that waits for its agent, on a worker or without.
_ATTACHED = ("running", "deferred", "awaiting_input")
#: The states of a task whose next try or execution is to come.
_COMING = ("up_for_retry", "scheduled", "queued", "restarting")
#: The most tasks that one order resumes: its sender waits for it.
_MAX_RESUMED = 100


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


@dataclass(frozen=True)
class Shared:
    """
    What came of an order.

    :param has_slot: Whether the task of the order has a slot.
    :param resumable: The ids of the task instances that have one, and wait without a worker to be resumed.
    """

    has_slot: bool
    resumable: Sequence[UUID]


def carry_out(order: SlotOrder, is_active: IsActive) -> Shared | None:
    """
    Give the free slots to those who have waited longest; return None if the task of the order has ended.

    :param is_active: Called for agent tasks that count if they are active; it must not wait.
    """
    conn_id, asking = order.conn_id, order.task_instance_id if isinstance(order, TakeSlot) else None
    with create_session(scoped=False) as session:
        # Two orders must not give away the same slot.
        _lock(session, conn_id)
        if asking and not _join_queue(session, conn_id, asking):
            return None
        holders = _read_holders(session, conn_id)
        free = order.limit - len(holders)
        waiting = _read_waiting(session, conn_id, free) if free > 0 else []
        if waiting:
            free -= sum(map(is_active, _list_detached(session, conn_id, holders)))
        if given := waiting[: max(0, free)]:
            _give(session, [place.row_id for place in given])
        owners = holders | {place.id: bool(place.resumes) for place in given}
        resumable = [one for one, resumes in owners.items() if resumes]
        if not asking:
            resumable += _list_without_place(session)
        return Shared(asking in owners, resumable[:_MAX_RESUMED])


def _lock(session: Any, conn_id: str) -> None:
    """Wait for other orders about the connection, until the session ends."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(_LOCKS, zlib.crc32(conn_id.encode()) >> 1)))
    else:
        # An update locks the row on every database, and all of SQLite; SQLite ignores SELECT … FOR UPDATE.
        pool = update(Pool).where(Pool.pool == Pool.DEFAULT_POOL_NAME).values(pool=Pool.pool)
        session.execute(pool.execution_options(synchronize_session=False))


# --- the queue


def _describe(conn_id: str, try_number: Any, *, has_slot: bool) -> Any:
    """Return a place as text, or as an expression where the number of the try is a column."""
    text = json.dumps({"has_slot": has_slot, "conn_id": conn_id, "try_number": 0}).removesuffix("0}")
    return text + try_number + "}"


def _join_queue(session: Any, conn_id: str, task_instance_id: UUID) -> bool:
    """Make sure that a task has a place; return False if it no longer runs."""
    names = [getattr(TaskInstance, name) for name in SCOPE_NAMES]
    query = select(*names, TaskInstance.try_number, DagRun.id.label("dag_run_id")).join(
        DagRun, and_(DagRun.dag_id == TaskInstance.dag_id, DagRun.run_id == TaskInstance.run_id)
    )
    task = session.execute(query.where(TaskInstance.id == task_instance_id, TaskInstance.state == "running"))
    if (row := task.first()) is None:
        return False
    own = {name: getattr(row, name) for name in SCOPE_NAMES} | {"key": SLOT_KEY}
    place = session.execute(
        select(TaskStateStoreModel.id, TaskStateStoreModel.value).filter_by(**own)
    ).first()
    stored = _read_json(place.value) if place else {}
    if (stored.get("conn_id"), stored.get("try_number")) == (conn_id, row.try_number):
        return True
    value, now = _describe(conn_id, str(row.try_number), has_slot=False), datetime.now(timezone.utc)
    if stored.get("conn_id") == conn_id and stored.get("has_slot") is False:
        # The try before it was lost while it waited, so this one takes its place.
        session.execute(update(TaskStateStoreModel).filter_by(**own).values(value=value, updated_at=now))
        return True
    session.execute(delete(TaskStateStoreModel).filter_by(**own))
    new = {**own, "dag_run_id": row.dag_run_id, "value": value, "updated_at": now, "expires_at": now + _KEPT}
    session.add(TaskStateStoreModel(**new))
    session.flush()
    return True


def _read_json(value: str) -> dict[str, Any]:
    stored = read_json(value)
    return stored if isinstance(stored, dict) else {}


def _is_record_of(conn_id: str) -> ColumnElement[bool]:
    """Return the condition that a row is an open record that has the name of the connection somewhere."""
    named = TaskStateStoreModel.value.contains(f'"conn_id": {json.dumps(conn_id)}', autoescape=True)
    return and_(TaskStateStoreModel.key == RECORD_KEY, IS_OPEN, named)


def _is_place(conn_id: str, *, has_slot: bool) -> ColumnElement[bool]:
    """Return the condition that a row is the place of its task's present try."""
    value = _describe(conn_id, cast(TaskInstance.try_number, String(20)), has_slot=has_slot)
    return and_(TaskStateStoreModel.key == SLOT_KEY, TaskStateStoreModel.value == value)


def _read_holders(session: Any, conn_id: str) -> dict[UUID, bool]:
    """Return the ids of the task instances that have a slot, and whether each waits to be resumed with it."""
    store = TaskStateStoreModel
    # Of a start without a response only the next try can find out what became of it.
    is_uncertain = and_(TaskInstance.state.in_(_COMING), store.value.contains('"task_id": null'))
    has_agent = and_(_is_record_of(conn_id), or_(TaskInstance.state.in_(_ATTACHED), is_uncertain))
    has_slot = and_(_is_place(conn_id, has_slot=True), TaskInstance.state.in_(_PRESENT))
    query = select(TaskInstance.id, store.key, store.value, _RESUMES.label("resumes"))
    holders: dict[UUID, bool] = {}
    for row in session.execute(query.join(store, IS_OF_TASK).where(or_(has_agent, has_slot))):
        is_place = row.key == SLOT_KEY
        # An agent may have said the name of another connection.
        if is_place or _read_json(row.value).get("conn_id", conn_id) == conn_id:
            holders[row.id] = holders.get(row.id, False) or (is_place and row.resumes)
    return holders


def _read_waiting(session: Any, conn_id: str, count: int) -> Sequence[Any]:
    """Return the first places of the queue: the row, the task instance, and whether it has no worker."""
    store = TaskStateStoreModel
    waits = or_(TaskInstance.state == "running", _RESUMES)
    columns = (store.id.label("row_id"), TaskInstance.id, _RESUMES.label("resumes"))
    query = select(*columns).join(TaskInstance, IS_OF_TASK)
    query = query.where(_is_place(conn_id, has_slot=False), waits).order_by(store.id).limit(count)
    found: Sequence[Any] = session.execute(query).all()
    return found


def _give(session: Any, row_ids: Sequence[int]) -> None:
    store = TaskStateStoreModel
    rows = update(store).where(store.id.in_(row_ids))
    value = func.replace(store.value, '{"has_slot": false', '{"has_slot": true')
    session.execute(rows.values(value=value), execution_options={"synchronize_session": False})


def _list_without_place(session: Any) -> list[UUID]:
    """Return the ids of task instances that wait for a slot, but whose place was deleted: they ask again."""
    place = select(TaskStateStoreModel.id).where(IS_OF_TASK, TaskStateStoreModel.key == SLOT_KEY)
    return list(session.scalars(select(TaskInstance.id).where(_RESUMES, ~place.exists())))


def _list_detached(session: Any, conn_id: str, holders: Container[UUID]) -> Iterator[Detached]:
    store = TaskStateStoreModel
    is_detached = or_(TaskInstance.state.is_(None), TaskInstance.state.not_in(_ATTACHED))
    query = select(store.id.label("row_id"), store.value, TaskInstance.id).outerjoin(TaskInstance, IS_OF_TASK)
    query = query.where(_is_record_of(conn_id), is_detached, MAY_BE_ACTIVE)
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
