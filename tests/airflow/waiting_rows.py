"""Task instances that wait for an agent task, as far as Airflow's database tells: real rows and records."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.models.dagrun import DagRun
from airflow.models.task_state_store import TaskStateStoreModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType
from sqlalchemy import event, select, update
from sqlalchemy.engine import Engine

from airflow_agent_tasks.airflow_compat.ended_tasks import build_scope, find_record
from airflow_agent_tasks.callbacks.token import CallbackToken, fingerprint
from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY
from tests.airflow.conftest import LONG_SCRIPT, finish_stops

STARTS = f"ShinzoTaskOperator(task_id='agent', message={LONG_SCRIPT!r}, wait_for_completion=False)"
STARTS_TWO = STARTS.replace("(", ".partial(", 1) + ".expand(priority=[1, 2])"
TRIGGER = "airflow_agent_tasks.triggers.agent_task.AgentTaskTrigger"
#: What the operator defers with, and what it parks with.
NEXT = {
    "deferred": {"next_method": "execute_complete", "next_kwargs": {"is_asked": True}},
    "awaiting_input": {"next_method": "take_answer", "next_kwargs": {"question_id": "1-x"}},
}


def start(run_dag: Any, source: str = STARTS, map_index: int = -1) -> Any:
    """Start an agent task, and return its task instance, which waits for it in a run of a scheduler."""
    row = run_dag(source)._task_instance("agent", map_index)
    # The plugin waits until the database shows the end of the run.
    finish_stops()
    set_trigger(row, DagRunTriggeredByType.REST_API)
    put(row, "deferred")
    return row


def set_trigger(row: Any, triggered_by: Any) -> None:
    """Say who has triggered the run of a task instance."""
    with create_session() as session:
        run = update(DagRun).filter_by(dag_id=row.dag_id, run_id=row.run_id)
        session.execute(run.values(triggered_by=triggered_by, state="running"))


def put(row: Any, state: str | None, *, seconds_ago: float = 60.0, **values: Any) -> None:
    """Put a task instance into a state, as if some seconds ago; only a deferred one has a trigger."""
    then = datetime.now(timezone.utc) - timedelta(seconds=seconds_ago)
    with create_session() as session:
        trigger = Trigger(TRIGGER, {}) if state == "deferred" else None
        if trigger:
            session.add(trigger)
            session.flush()
        values = {
            "updated_at": then,
            "trigger_id": trigger and trigger.id,
            **NEXT.get(state or "", {}),
            **values,
        }
        session.execute(update(TaskInstance).filter_by(id=row.id).values(state=state, **values))


def change_record(row: Any, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the record of a task in the database."""
    names = {"dag_id": row.dag_id, "run_id": row.run_id, "task_id": row.task_id, "key": RECORD_KEY}
    with create_session() as session:
        stored = session.scalars(select(TaskStateStoreModel).filter_by(**names)).one()
        stored.value = json.dumps(change(json.loads(stored.value)))


def read(row: Any) -> Any:
    """Return a task instance as the database now has it."""
    with create_session(scoped=False) as session:
        return session.get(TaskInstance, row.id)


def read_states(*rows: Any) -> list[str | None]:
    return [read(row).state for row in rows]


def token_of(row: Any) -> CallbackToken:
    """Return the token that the service of this task's submission has."""
    record = find_record(build_scope(row))
    assert record
    return CallbackToken(row.id, fingerprint(record.idempotency_key))


class Statements(list[str]):
    """The statements that this process sends to its database in a block."""

    def __enter__(self) -> Statements:
        event.listen(Engine, "before_cursor_execute", self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        event.remove(Engine, "before_cursor_execute", self._note)

    def _note(self, connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        self.append(statement)
