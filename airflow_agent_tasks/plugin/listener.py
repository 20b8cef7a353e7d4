"""
What is done once Airflow has taken note that a task has ended.

On a worker, after a success: the record of the agent task is removed. Before, a worker that died in between
would have left neither a result nor the way to it.

In the API server and the scheduler, when they end a task themselves: its agent task is stopped.
A task that is marked failed or success has no worker and no trigger to tell while it is up for retry, queued,
or deferred and not yet taken by a triggerer; nor has one whose worker was lost in its last try. So the agent
task that its record names is stopped from here. Every Airflow process imports this module: it imports what it
needs only when something is to be stopped.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from functools import cache
from multiprocessing.pool import ThreadPool
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
            task = stop_unless_over(find_hook(record.conn_id), record.task_id, record.agent_id, ended.state)
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
    deadline = time.monotonic() + SECONDS_TO_COMMIT
    while True:
        with create_session() as session:
            row = session.execute(query).one_or_none()
        state = str(getattr(row.state, "value", row.state)) if row else None
        if row and (state, row.max_tries) == (ended.state, ended.max_tries):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)


@cache
def _get_threads() -> ThreadPool:
    # Its threads are daemons: a service that does not answer must not keep a server from ending.
    return ThreadPool(THREADS)
