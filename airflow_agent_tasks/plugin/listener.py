"""
What is done once Airflow has taken note that a task has ended.

On a worker, after a success: the record of the agent task is removed. Before, a worker that died in between
would have left neither a result nor the way to it.

In the API server and the scheduler, when they end a task themselves: its agent task is stopped.
A task that is marked failed or success has no worker and no trigger to tell while it awaits a person's input,
is up for retry, queued, or deferred and not yet taken by a triggerer; nor has one whose worker was lost in
its last try. So the agent task that its record names is stopped from here. When a whole DAG run is ended,
Airflow tells nothing of the tasks that it skips, so they are looked up. Every Airflow process imports this
module: it imports what it needs only when something is to be stopped.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing.pool import ThreadPool
from threading import Thread
from typing import Any

from airflow.listeners import hookimpl

log = logging.getLogger(__name__)

#: Of the API server's and the scheduler's task instances; those of a worker are of another class.
SERVER_CLASS = "airflow.models.taskinstance"
FINAL_STATES = ("failed", "success", "skipped")
#: A service that does not answer must hold neither the page nor the scheduler, nor a thread for each task.
THREADS = 4
#: Seconds for what Airflow tells here to be committed to its database.
SECONDS_TO_COMMIT = 10.0


@dataclass(frozen=True)
class EndedTask:
    """An Airflow task that has come to an end outside a worker."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    max_tries: int
    state: str

    def __str__(self) -> str:
        place = f"[{self.map_index}]" if self.map_index >= 0 else ""
        return f"Task {self.task_id}{place} of {self.dag_id}, run {self.run_id}, ended as {self.state}"


@hookimpl
def on_task_instance_success(task_instance: Any) -> None:
    """Look after what was marked as success, and tidy up after what succeeded on this worker."""
    look_after(task_instance)
    forget = getattr(getattr(task_instance, "task", None), "forget_agent_task", None)
    if type(task_instance).__module__ != SERVER_CLASS and forget:
        try:
            forget(task_instance.get_template_context())
        except Exception as error:  # which would silence the listeners of others
            log.warning("The record of an agent task could not be removed: %s", error)


@hookimpl
def on_task_instance_failed(task_instance: Any) -> None:
    """Look after what was marked as failed, or whose worker was lost."""
    look_after(task_instance)


@hookimpl
def on_task_instance_skipped(task_instance: Any) -> None:
    """Look after what was marked as skipped."""
    look_after(task_instance)


@hookimpl
def on_dag_run_success(dag_run: Any) -> None:
    """Look after the tasks that were skipped when the run was marked as success."""
    look_after_run(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: Any) -> None:
    """Look after the tasks that were skipped when the run was marked as failed, or had timed out."""
    look_after_run(dag_run)


def look_after_run(dag_run: Any) -> None:
    """Stop the agent tasks of a run's skipped tasks, in a thread; returns at once."""
    # A thread of its own: nearly always there is nothing to stop, and then the others need not exist.
    Thread(target=stop_skipped, args=(dag_run.dag_id, dag_run.run_id), daemon=True).start()


def stop_skipped(dag_id: str, run_id: str) -> None:
    """Stop the agent tasks that the records of a run's skipped tasks name, once the run has ended."""
    try:
        for ended in _list_skipped(dag_id, run_id):
            _get_threads().apply_async(stop_agent_task, (ended,))
    except Exception:
        log.exception("Agent tasks of DAG %s, run %s, may still be running", dag_id, run_id)


def look_after(task_instance: Any) -> None:
    """Stop the agent task of a task instance that a server ended, in a thread; returns at once."""
    ti, state = task_instance, str(getattr(task_instance.state, "value", task_instance.state))
    if type(ti).__module__ == SERVER_CLASS and state in FINAL_STATES:
        ended = EndedTask(ti.dag_id, ti.run_id, ti.task_id, ti.map_index, ti.max_tries, state)
        _get_threads().apply_async(stop_agent_task, (ended,))


def stop_agent_task(ended: EndedTask) -> None:
    """Stop the agent task that the record of an ended Airflow task names, if it still runs."""
    from airflow_agent_tasks.errors import AgentTaskError
    from airflow_agent_tasks.hooks.lookup import find_hook
    from airflow_agent_tasks.triggers.killing import stop_unless_over

    try:
        record = _read_record(ended)
        # Another max_tries is that of a later clear, whose agent task is none of this end's.
        if record is None or record.task_id is None or record.max_tries != ended.max_tries:
            return
        if record.on_kill_policy == "stop" and _is_committed(ended):
            task = stop_unless_over(find_hook(record.conn_id), record.task_id, record.agent_id)
            log.info("%s; its agent task, in the end: %s", ended, task)
    except AgentTaskError as error:
        log.warning("%s; its agent task may still be running: %s", ended, error)
    except Exception:
        log.exception("%s; its agent task may still be running", ended)


def _read_record(ended: EndedTask) -> Any:
    from airflow.state import TaskScope, get_state_backend

    from airflow_agent_tasks.protocol.record import RECORD_KEY, StartRecord

    scope = TaskScope(ended.dag_id, ended.run_id, ended.task_id, ended.map_index)
    stored = get_state_backend().get(scope, RECORD_KEY)
    return None if stored is None else StartRecord.from_json(json.loads(stored))


def _is_committed(ended: EndedTask) -> bool:
    """Wait until others see the end too: it is told before it is written, and may never be."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    query = select(TaskInstance.state, TaskInstance.max_tries).filter_by(
        dag_id=ended.dag_id, run_id=ended.run_id, task_id=ended.task_id, map_index=ended.map_index
    )

    def is_seen() -> bool:
        with create_session() as session:
            row = session.execute(query).one_or_none()
        state = str(getattr(row.state, "value", row.state)) if row else None
        return row is not None and (state, row.max_tries) == (ended.state, ended.max_tries)

    return _comes_true(is_seen)


def _list_skipped(dag_id: str, run_id: str) -> list[EndedTask]:
    from airflow.models.dagrun import DagRun
    from airflow.models.task_state_store import TaskStateStoreModel
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from airflow.utils.state import State
    from sqlalchemy import and_, select

    from airflow_agent_tasks.protocol.record import RECORD_KEY

    run = select(DagRun.state).filter_by(dag_id=dag_id, run_id=run_id)
    ti, stored = TaskInstance, TaskStateStoreModel
    place = [getattr(ti, name) == getattr(stored, name) for name in ("run_id", "task_id", "map_index")]
    skipped = (
        select(ti.task_id, ti.map_index, ti.max_tries)
        .join(stored, and_(ti.dag_id == stored.dag_id, *place))
        .where(ti.dag_id == dag_id, ti.run_id == run_id, ti.state == "skipped", stored.key == RECORD_KEY)
    )

    def has_ended() -> bool:
        with create_session() as session:
            return session.scalar(run) in State.finished_dr_states

    if not _comes_true(has_ended):
        return []
    with create_session() as session:
        return [EndedTask(dag_id, run_id, *row, "skipped") for row in session.execute(skipped)]


def _comes_true(condition: Callable[[], bool]) -> bool:
    """Wait until what Airflow has told is seen in its database too; False if it never is."""
    deadline = time.monotonic() + SECONDS_TO_COMMIT
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


@cache
def _get_threads() -> ThreadPool:
    # Its threads are daemons: a service that does not answer must not keep a server from ending.
    return ThreadPool(THREADS)
