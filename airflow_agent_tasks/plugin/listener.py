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
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

from airflow.listeners import hookimpl

log = logging.getLogger(__name__)

#: Of the API server's and the scheduler's task instances; those of a worker are of another class.
SERVER_CLASS = "airflow.models.taskinstance"
#: A service that does not answer must hold neither the page nor the scheduler, nor a thread for each task.
THREADS = 4


@dataclass(frozen=True)
class EndedTask:
    """An Airflow task that has come to an end outside a worker."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    state: str

    def __str__(self) -> str:
        place = f"[{self.map_index}]" if self.map_index >= 0 else ""
        return f"Task {self.task_id}{place} of {self.dag_id}, run {self.run_id}, ended as {self.state}"


@hookimpl
def on_task_instance_success(task_instance: Any) -> None:
    """Look after what was marked as success, and tidy up after what succeeded on this worker."""
    look_after(task_instance)
    if type(task_instance).__module__ != SERVER_CLASS and hasattr(task_instance.task, "forget_agent_task"):
        task_instance.task.forget_agent_task(task_instance.get_template_context())


@hookimpl
def on_task_instance_failed(task_instance: Any) -> None:
    """Look after what was marked as failed, or whose worker was lost."""
    look_after(task_instance)


@hookimpl
def on_task_instance_skipped(task_instance: Any) -> None:
    """Look after what was marked as skipped."""
    look_after(task_instance)


def look_after(task_instance: Any) -> Future[None] | None:
    """Stop the agent task of a task instance that a server ended, in a thread; returns at once."""
    state = str(getattr(task_instance.state, "value", task_instance.state))
    if type(task_instance).__module__ != SERVER_CLASS or state not in ("failed", "success", "skipped"):
        return None
    ti = task_instance
    ended = EndedTask(ti.dag_id, ti.run_id, ti.task_id, ti.map_index, state)
    return _get_threads().submit(stop_agent_task, ended)


def stop_agent_task(ended: EndedTask) -> None:
    """Stop the agent task that the record of an ended Airflow task names, if it still runs."""
    from airflow_agent_tasks.errors import AgentTaskError
    from airflow_agent_tasks.hooks.lookup import find_hook
    from airflow_agent_tasks.triggers.killing import is_worth_stopping

    try:
        record = _read_record(ended)
        if record is None or record.task_id is None or record.on_kill_policy != "stop":
            return
        hook = find_hook(record.conn_id)
        task = hook.get_task(record.task_id, record.agent_id)
        if is_worth_stopping(task, ended.state):
            task = hook.stop_task(record.task_id, record.agent_id)
            log.info("%s; its agent task was stopped: %s", ended, task)
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


@cache
def _get_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="agent-tasks")
