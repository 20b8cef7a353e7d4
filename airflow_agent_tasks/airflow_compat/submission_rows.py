"""
The agent tasks that Airflow task instances have submitted, as Airflow's database knows them.

For the API server and for commands. Each has a record in the task state store, which outlives the agent task
by as long as Airflow keeps it, 30 days by default.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow.models.task_state_store import TaskStateStoreModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.state import TaskScope
from airflow.utils.session import create_session
from sqlalchemy import ColumnElement, Select, String, and_, cast, func, or_, select

from airflow_agent_tasks.agent_task import (
    QUESTION_LINK_KEY,
    STATUS_KEY,
    TASK_LINK_KEY,
    TERMINAL_STATES,
    TaskState,
)
from airflow_agent_tasks.airflow_compat.ended_tasks import (
    HAS_NOT_ENDED,
    IS_OF_TASK,
    IS_OPEN,
    SCOPE_NAMES,
    build_scope,
    name_task,
    read_json,
)
from airflow_agent_tasks.airflow_compat.task_states import FINAL_STATES
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY, Submission

#: The XComs of a task that say what its agent does. Their values are small, unlike the result.
XCOM_KEYS = (STATUS_KEY, "progress", "usage", TASK_LINK_KEY, QUESTION_LINK_KEY)
#: The number of tasks whose XComs are read with one query.
BATCH = 500
#: Above this number of matches, they are not counted: a page asks for the number every few seconds.
MAX_COUNT = 10_000

_STATUSES = {state.value for state in TaskState}
#: The key of what Airflow stores in place of a value that a worker's own state backend has.
_REFERENCE = "__airflow_state_ref__"
_INDEX = getattr(TaskStateStoreModel, SCOPE_NAMES[-1])
_INDEX_AT = len(SCOPE_NAMES) - 1
_WAITS = and_(TaskInstance.id.is_not(None), HAS_NOT_ENDED)
_COLUMNS = (
    *(getattr(TaskStateStoreModel, name) for name in SCOPE_NAMES),
    TaskStateStoreModel.dag_run_id,
    TaskStateStoreModel.value,
    TaskStateStoreModel.updated_at,
    TaskInstance.id,
    TaskInstance.state,
    TaskInstance.try_number,
    TaskInstance.max_tries,
)
#: The states of an Airflow task in which a worker or a triggerer looks after its agent task.
_AT_WORK = ("running", "restarting", "deferred", "awaiting_input")


@dataclass(frozen=True)
class Criteria:
    """
    Which submissions to find.

    :param since: Leaves out those whose record has not changed since then, unless their Airflow task has not
        ended.
    :param readable_dag_ids: The DAGs that may be read; default None: all.
    :param dag_id: The DAG; likewise ``run_id``, ``task_id`` and ``map_index``. Default None: all.
    :param states: The states of the Airflow task; default: all.
    :param agent_states: The states of the agent task; default: all.
    :param text: A part of the id of the DAG, the run or the task, or the beginning of the id of the agent
        task, the agent or the connection; default: any. Nothing that an agent has said is searched.
    :param is_active: True for those whose agent may be working, as far as Airflow knows; default False: all.
    """

    since: datetime
    readable_dag_ids: Collection[str] | None = None
    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None
    states: Sequence[str] = ()
    agent_states: Sequence[str] = ()
    text: str = ""
    is_active: bool = False


@dataclass(frozen=True)
class SubmissionRow:
    """
    A submission and its Airflow task.

    :param scope: The names of the Airflow task.
    :param record: The record; None if it is damaged or stored elsewhere.
    :param is_elsewhere: True if workers store their tasks' states in a backend of their own.
    :param exists: False if the Airflow task was deleted.
    :param state: The state of the Airflow task; None if it has none, or no longer exists.
    :param try_number: The number of its present try; 0 if it no longer exists.
    :param max_tries: Airflow's ``max_tries``; 0 if it no longer exists.
    :param updated_at: When the record was last written.
    :param xcoms: The values of ``XCOM_KEYS`` by key, as far as the task has pushed them.
    """

    scope: TaskScope
    record: Submission | None
    is_elsewhere: bool
    exists: bool
    state: str | None
    try_number: int
    max_tries: int
    updated_at: datetime
    xcoms: dict[str, Any]

    @property
    def is_open(self) -> bool:
        """True if a try may attach to the agent task, or if the record is damaged."""
        return self.record is None or not self.record.is_closed

    @property
    def status(self) -> str:
        """The state of the agent task as last seen; empty if unknown."""
        closed = self.record and self.record.is_closed
        seen = self.record.status if self.record and closed else self.xcoms.get(STATUS_KEY)
        # An XCom backend may have stored a reference in its place.
        return seen if isinstance(seen, str) and seen in _STATUSES else ""

    @property
    def has_ended(self) -> bool:
        """True if the Airflow task has ended, or no longer exists."""
        return not self.exists or self.state in FINAL_STATES

    @property
    def awaits_next_try(self) -> bool:
        """True if the Airflow task was cleared, and its next try, which stops the agent, has not begun."""
        if self.record is None or self.has_ended or self.state in _AT_WORK:
            return False
        return self.record.is_from_before_clear(self.max_tries)

    def __str__(self) -> str:
        return f"task {name_task(self.scope)}"


def count_submissions(criteria: Criteria) -> int:
    """Return how many submissions match, at most ``MAX_COUNT`` + 1."""
    matches = _select(criteria, TaskStateStoreModel.id).limit(MAX_COUNT + 1).subquery()
    with create_session() as session:
        return session.scalar(select(func.count()).select_from(matches)) or 0


def list_dag_ids(criteria: Criteria) -> set[str]:
    """Return the ids of the DAGs with submissions that match."""
    with create_session() as session:
        return set(session.scalars(_select(criteria, TaskStateStoreModel.dag_id).distinct()))


def list_submissions(criteria: Criteria, *, limit: int | None = None, offset: int = 0) -> list[SubmissionRow]:
    """
    Return the matching submissions, the newest first.

    :param limit: The maximum number; default None: all.
    :param offset: How many of the newest to leave out; default 0.
    """
    newest_first = (TaskStateStoreModel.updated_at.desc(), TaskStateStoreModel.id.desc())
    query = _select(criteria, *_COLUMNS).order_by(*newest_first).limit(limit).offset(offset)
    xcoms: dict[tuple[Any, ...], dict[str, Any]] = {}
    with create_session() as session:
        rows = session.execute(query).all()
        for start in range(0, len(rows), BATCH):
            for *owner, key, value in session.execute(_select_xcoms(rows[start : start + BATCH])):
                xcoms.setdefault(tuple(owner), {})[key] = read_json(value)
    return [_build_row(row, xcoms.get((row.dag_run_id, row.task_id, row[_INDEX_AT]), {})) for row in rows]


def _select(criteria: Criteria, *columns: Any) -> Select[Any]:
    query = select(*columns).select_from(TaskStateStoreModel).outerjoin(TaskInstance, IS_OF_TASK)
    return query.where(*_list_conditions(criteria))


def _list_conditions(criteria: Criteria) -> Iterator[ColumnElement[bool]]:
    store = TaskStateStoreModel
    yield store.key == RECORD_KEY
    yield or_(store.updated_at >= criteria.since, and_(IS_OPEN, _WAITS))
    if criteria.readable_dag_ids is not None:
        yield store.dag_id.in_(criteria.readable_dag_ids)
    for column, value in (
        (store.dag_id, criteria.dag_id),
        (store.run_id, criteria.run_id),
        (store.task_id, criteria.task_id),
        (_INDEX, criteria.map_index),
    ):
        if value is not None:
            yield column == value
    if criteria.states:
        yield TaskInstance.state.in_(criteria.states)
    if criteria.agent_states:
        yield or_(*map(_has_status, criteria.agent_states))
    if criteria.is_active:
        yield and_(IS_OPEN, or_(_WAITS, MAY_BE_ACTIVE))
    if criteria.text:
        yield or_(*_find_text(criteria.text))


def _find_text(text: str) -> Iterator[ColumnElement[bool]]:
    for column in (TaskStateStoreModel.dag_id, TaskStateStoreModel.run_id, TaskStateStoreModel.task_id):
        yield column.icontains(text, autoescape=True)
    # In what an agent has said, JSON would have a backslash before these quotation marks.
    for name in ("task_id", "agent_id", "conn_id"):
        beginning = f'"{name}": {json.dumps(text)[:-1]}'
        yield TaskStateStoreModel.value.icontains(beginning, autoescape=True)


def _has_status(status: str) -> ColumnElement[bool]:
    store, text = TaskStateStoreModel, json.dumps(status)
    pushed = select(XComModel.key).where(
        XComModel.dag_run_id == store.dag_run_id,
        XComModel.task_id == store.task_id,
        XComModel.map_index == _INDEX,
        XComModel.key == STATUS_KEY,
        # As text, because the databases compare JSON in different ways.
        cast(XComModel.value, String(50)) == text,
    )
    return or_(
        and_(IS_OPEN, pushed.exists()),
        and_(~IS_OPEN, store.value.contains(f'"status": {text}, "max_tries"', autoescape=True)),
    )


#: The condition that the agent of an open record has not ended, as far as Airflow knows.
MAY_BE_ACTIVE = ~or_(*(_has_status(state.value) for state in TERMINAL_STATES))


def _select_xcoms(rows: Sequence[Any]) -> Select[Any]:
    names = (XComModel.dag_run_id, XComModel.task_id, XComModel.map_index)
    return select(*names, XComModel.key, XComModel.value).where(
        XComModel.dag_run_id.in_({row.dag_run_id for row in rows}),
        XComModel.task_id.in_({row.task_id for row in rows}),
        XComModel.map_index.in_({row[_INDEX_AT] for row in rows}),
        XComModel.key.in_(XCOM_KEYS),
    )


def _build_row(row: Any, xcoms: dict[str, Any]) -> SubmissionRow:
    stored, record = read_json(row.value), None
    with suppress(AgentTaskError):
        record = Submission.from_json(stored)
    return SubmissionRow(
        build_scope(row),
        record,
        isinstance(stored, dict) and _REFERENCE in stored,
        row.id is not None,
        None if row.state is None else str(getattr(row.state, "value", row.state)),
        row.try_number or 0,
        row.max_tries or 0,
        row.updated_at,
        xcoms,
    )
