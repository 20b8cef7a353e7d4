"""
The slots of a connection with ``max_concurrent_tasks``, in Airflow's database. For the API server only.

A slot is taken by a task to which this module has given one in its present try; by a task that waits for the
agent task that its open record names; and by any other agent task with an open record that its service says
is active. So no slot is ever lost: whatever happens to a worker, its slot is free again once Airflow knows
that. Each task that waits has a row in the task state store; the ids of the rows are the order of the queue.

A task must not hold what others need who have a slot, or nobody could go on: no worker while it waits, hardly
a place in a triggerer, and no slot while its DAG is paused.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.pool import Pool
from airflow.models.task_state_store import TaskStateStoreModel
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import ColumnElement, String, and_, cast, delete, func, or_, select, update

from airflow_agent_tasks.airflow_compat.detached_rows import ATTACHED, IsActive, is_record_of, list_detached
from airflow_agent_tasks.airflow_compat.ended_tasks import IS_OF_TASK, SCOPE_NAMES, read_json
from airflow_agent_tasks.airflow_compat.slot_orders import RESUME_METHOD, SlotOrder, TakeSlot

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

#: The condition that the scheduler starts no task of a task's DAG.
_IS_PAUSED = TaskInstance.dag_id.in_(select(DagModel.dag_id).where(DagModel.is_paused))
#: The states of a task whose next try or execution is to come.
_COMING = ("up_for_retry", "scheduled", "queued", "restarting")
#: The most tasks that one order resumes: its sender waits for it.
_MAX_RESUMED = 100
#: How many of the tasks that wait for a connection keep their triggers, which have the slots shared.
_KEPT_TRIGGERS = 1
#: The most triggers that one order takes away.
_MAX_RELEASED = 500


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
        _take_back(session, conn_id)
        holders = _read_holders(session, conn_id)
        free = order.limit - len(holders)
        waiting = _read_waiting(session, conn_id, free) if free > 0 else []
        if waiting:
            free -= sum(map(is_active, list_detached(session, conn_id, holders)))
        if given := waiting[: max(0, free)]:
            _write(session, [place.row_id for place in given], has_slot=True)
        owners = holders | {place.id: bool(place.resumes) for place in given}
        resumable = [one for one, resumes in owners.items() if resumes]
        if not asking:
            resumable += _list_without_place(session)
            _release_triggers(session, conn_id)
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


def _is_place(conn_id: str, *, has_slot: bool) -> ColumnElement[bool]:
    """Return the condition that a row is the place of its task's present try."""
    value = _describe(conn_id, cast(TaskInstance.try_number, String(20)), has_slot=has_slot)
    return and_(TaskStateStoreModel.key == SLOT_KEY, TaskStateStoreModel.value == value)


def _read_holders(session: Any, conn_id: str) -> dict[UUID, bool]:
    """Return the ids of the task instances that have a slot, and whether each waits to be resumed with it."""
    store = TaskStateStoreModel
    # Of a start without a response only the next try can find out what became of it.
    is_uncertain = and_(TaskInstance.state.in_(_COMING), store.value.contains('"task_id": null'))
    has_agent = and_(is_record_of(conn_id), or_(TaskInstance.state.in_(ATTACHED), is_uncertain))
    has_slot = and_(_is_place(conn_id, has_slot=True), TaskInstance.state.in_(_PRESENT))
    query = select(TaskInstance.id, store.key, store.value, _RESUMES.label("resumes"))
    holders: dict[UUID, bool] = {}
    unconfirmed = set()
    for row in session.execute(query.join(store, IS_OF_TASK).where(or_(has_agent, has_slot))):
        is_place, value = row.key == SLOT_KEY, _read_json(row.value)
        # An agent may have said the name of another connection.
        if is_place or value.get("conn_id", conn_id) == conn_id:
            holders[row.id] = holders.get(row.id, False) or (is_place and row.resumes)
            if not is_place and value.get("task_id") is None:
                unconfirmed.add(row.id)
    if unconfirmed:
        # Those who ask for a slot, to send a start again that may never have arrived, have none yet.
        asks = and_(_is_place(conn_id, has_slot=False), TaskInstance.id.in_(unconfirmed))
        for task in session.scalars(select(TaskInstance.id).join(store, IS_OF_TASK).where(asks)):
            del holders[task]
    return holders


def _read_waiting(session: Any, conn_id: str, count: int) -> Sequence[Any]:
    """Return the first places of the queue: the row, the task instance, and whether it has no worker."""
    store = TaskStateStoreModel
    waits = or_(TaskInstance.state == "running", and_(_RESUMES, ~_IS_PAUSED))
    columns = (store.id.label("row_id"), TaskInstance.id, _RESUMES.label("resumes"))
    query = select(*columns).join(TaskInstance, IS_OF_TASK)
    query = query.where(_is_place(conn_id, has_slot=False), waits).order_by(store.id).limit(count)
    found: Sequence[Any] = session.execute(query).all()
    return found


def _take_back(session: Any, conn_id: str) -> None:
    """Take the slots back from tasks that have not used them and whose DAG is paused: they ask again."""
    store = TaskStateStoreModel
    unused = and_(TaskInstance.state == "scheduled", TaskInstance.next_method == RESUME_METHOD, _IS_PAUSED)
    query = select(store.id).join(TaskInstance, IS_OF_TASK).where(_is_place(conn_id, has_slot=True), unused)
    if row_ids := session.scalars(query).all():
        _write(session, row_ids, has_slot=False)


def _write(session: Any, row_ids: Sequence[int], *, has_slot: bool) -> None:
    store = TaskStateStoreModel
    rows = update(store).where(store.id.in_(row_ids))
    old, new = (f'{{"has_slot": {json.dumps(value)}' for value in (not has_slot, has_slot))
    value = func.replace(store.value, old, new)
    session.execute(rows.values(value=value), execution_options={"synchronize_session": False})


def _release_triggers(session: Any, conn_id: str) -> None:
    """
    Take the triggers from those who wait, but for the last one of the queue.

    Otherwise, they could fill all triggerers, and nobody would see the ends of the agents that have slots.
    The tasks do not need them: they are resumed from here.
    """
    waits = and_(_is_place(conn_id, has_slot=False), _RESUMES, TaskInstance.trigger_id.is_not(None))
    query = select(TaskInstance.id).join(TaskStateStoreModel, IS_OF_TASK).where(waits)
    query = query.order_by(TaskStateStoreModel.id.desc()).offset(_KEPT_TRIGGERS).limit(_MAX_RELEASED)
    if ids := session.scalars(query).all():
        rows = update(TaskInstance).where(TaskInstance.id.in_(ids), _RESUMES)
        # Not a change of the task: when it may resume is counted from its last one.
        rows = rows.values(trigger_id=None, updated_at=TaskInstance.updated_at)
        session.execute(rows, execution_options={"synchronize_session": False})


def _list_without_place(session: Any) -> list[UUID]:
    """Return the ids of task instances that wait for a slot, but whose place was deleted: they ask again."""
    place = select(TaskStateStoreModel.id).where(IS_OF_TASK, TaskStateStoreModel.key == SLOT_KEY)
    return list(session.scalars(select(TaskInstance.id).where(_RESUMES, ~place.exists())))


def list_waiting() -> dict[str, UUID]:
    """Return the connections for whose slots tasks wait without a worker, each with the first of them."""
    store = TaskStateStoreModel
    first = select(func.min(store.id)).join(TaskInstance, IS_OF_TASK)
    first = first.where(store.key == SLOT_KEY, _RESUMES, ~_IS_PAUSED).group_by(store.value)
    query = select(store.value, TaskInstance.id).join(TaskInstance, IS_OF_TASK)
    query = query.where(store.id.in_(first)).order_by(store.id.desc())
    with create_session(scoped=False) as session:
        found = {_read_json(value).get("conn_id"): task for value, task in session.execute(query)}
    return {conn_id: task for conn_id, task in found.items() if isinstance(conn_id, str)}
