"""
Stops the agent tasks of Airflow tasks that the API server or the scheduler has ended, in threads.

Everything is imported here at the top, and this module by whoever starts the threads: LocalExecutor forks the
scheduler, and a process that was forked while a thread imported a module can never import that module.
"""

from __future__ import annotations

import atexit
import encodings.idna  # noqa: F401 - imported by the first look-up of a host name, in a thread
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing.pool import ThreadPool
from threading import Thread
from typing import Any

from airflow.models.dagrun import DagRun
from airflow.models.task_state_store import TaskStateStoreModel
from airflow.models.taskinstance import TaskInstance
from airflow.state import TaskScope, get_state_backend
from airflow.utils.session import create_session
from airflow.utils.state import State
from sqlalchemy import and_, select

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.client import sync_client  # noqa: F401 - imported by hooks when they send
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.hooks import lightcone, shinzo  # noqa: F401 - found by their names, in a thread
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.hooks.find_hook import find_hook
from airflow_agent_tasks.lifecycle.submission import RECORD_KEY, Submission

log = logging.getLogger(__name__)

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


def begin_to_stop(ended: EndedTask) -> None:
    """Stop the agent task of an ended Airflow task; returns at once."""
    get_threads().apply_async(stop_agent_task, (ended,))


def begin_to_stop_skipped(dag_id: str, run_id: str) -> None:
    """Stop the agent tasks of an ended DAG run's skipped tasks; returns at once."""
    Thread(target=stop_skipped, args=(dag_id, run_id), daemon=True).start()


def stop_skipped(dag_id: str, run_id: str) -> None:
    """Stop the agent tasks that the records of a run's skipped tasks name, once the run has ended."""
    try:
        for ended in _list_skipped(dag_id, run_id):
            begin_to_stop(ended)
    except Exception:
        log.exception("Agent tasks of DAG %s, run %s, may still be running", dag_id, run_id)


def stop_agent_task(ended: EndedTask) -> None:
    """Stop the agent task that the record of an ended Airflow task names, if it still runs."""
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


@cache
def get_threads() -> ThreadPool:
    """Return the threads that stop: daemons, so that a silent service keeps no server from ending."""
    threads = ThreadPool(THREADS)
    # Else it complains into the server's log, with a traceback, that nobody has ended it.
    atexit.register(threads.terminate)
    return threads


def _read_record(ended: EndedTask) -> Submission | None:
    scope = TaskScope(ended.dag_id, ended.run_id, ended.task_id, ended.map_index)
    stored: Any = get_state_backend().get(scope, RECORD_KEY)
    return None if stored is None else Submission.from_json(json.loads(stored))


def _is_committed(ended: EndedTask) -> bool:
    """Wait until others see the end too: it is told before it is written, and may never be."""
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
        rows = session.execute(skipped).all()
    return [EndedTask(dag_id, run_id, row.task_id, row.map_index, row.max_tries, "skipped") for row in rows]


def _comes_true(condition: Callable[[], bool]) -> bool:
    """Wait until what Airflow has told is seen in its database too; False if it never is."""
    deadline = time.monotonic() + SECONDS_TO_COMMIT
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def stop_unless_over(hook: AgentTaskHook, task_id: str, agent_id: str | None) -> AgentTask:
    """Stop an agent task, unless it has ended, and return it."""
    try:
        task = hook.get_task(task_id, agent_id)
    except AgentTaskError as error:
        if not error.is_transient:
            raise
    else:
        if task.is_terminal:
            return task
    return hook.stop_task(task_id, agent_id)
