"""
Stops the agent tasks of Airflow tasks that the API server or the scheduler has ended, in threads.

Everything is imported here at the top, and this module before the threads start: LocalExecutor forks the
scheduler, and a process that is forked while a thread imports a module can never import that module.
"""

from __future__ import annotations

import atexit
import encodings.idna  # noqa: F401 - imported by the first look-up of a host name, in a thread
import logging
import time
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from multiprocessing.pool import ThreadPool
from threading import Thread

from airflow_agent_tasks.airflow_compat.ended_tasks import (
    REPLACED,
    EndedTask,
    has_run_ended,
    is_committed,
    list_passed_over,
    read_record,
)
from airflow_agent_tasks.client import sync_client  # noqa: F401 - imported by hooks when they send
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.hooks.find_hook import find_hook
from airflow_agent_tasks.provider_info import get_provider_info

log = logging.getLogger(__name__)

#: A service that does not answer must block neither a request nor the scheduler, nor take a thread per task.
THREADS = 4
#: Seconds for Airflow to commit an end that it has notified listeners of.
SECONDS_TO_COMMIT = 10.0

# Airflow imports them by name, in a thread.
for _connection_type in get_provider_info()["connection-types"]:
    import_module(_connection_type["hook-class-name"].rpartition(".")[0])


def stop_in_background(ended: EndedTask) -> None:
    """Stop the agent task of an ended Airflow task; returns at once."""
    get_threads().apply_async(stop_agent_task, (ended,))


def stop_passed_over_in_background(dag_id: str, run_id: str) -> None:
    """Stop the agent tasks of an ended DAG run's skipped and removed tasks; returns at once."""
    Thread(target=stop_passed_over, args=(dag_id, run_id), daemon=True).start()


def stop_passed_over(dag_id: str, run_id: str) -> None:
    """Stop the agent tasks of a run's skipped and removed tasks, once the database shows the run's end."""
    try:
        if not _wait_until(partial(has_run_ended, dag_id, run_id)):
            log.warning(
                "DAG %s, run %s, ended, but the database does not show it after %g s, so agent tasks of its "
                "skipped Airflow tasks may still be running",
                dag_id,
                run_id,
                SECONDS_TO_COMMIT,
            )
            return
        for ended in list_passed_over(dag_id, run_id):
            stop_in_background(ended)
    except Exception:
        log.exception("Agent tasks of DAG %s, run %s, may still be running", dag_id, run_id)


def stop_agent_task(ended: EndedTask) -> None:
    """Stop the agent task that the record of an ended Airflow task names, if it is still active."""
    try:
        record = read_record(ended)
        # A higher max_tries comes from a later clear, whose next try started an agent task of its own.
        if record is None or record.task_id is None or (record.max_tries or 0) > ended.max_tries:
            return
        # A clear starts over: it stops the agent task whatever the policy says of kills.
        if record.on_kill_policy != "stop" and ended.state != REPLACED:
            return
        if not _wait_until(partial(is_committed, ended)):
            log.warning(
                "%s, but the database does not show it after %g s, so agent task %s is left as it is",
                ended,
                SECONDS_TO_COMMIT,
                record.task_id,
            )
            return
        outcome = stop_if_active(find_hook(record.conn_id), record.task_id, record.agent_id)
        log.info("%s%s", ended, outcome)
    except AgentTaskError as error:
        log.warning("%s, and its agent task may still be running: %s", ended, error)
    except Exception:
        log.exception("%s, and its agent task may still be running", ended)


@cache
def get_threads() -> ThreadPool:
    """Return the threads that stop: daemons, so that a service without an answer delays no shutdown."""
    threads = ThreadPool(THREADS)
    # Otherwise it warns in the server's log, with a traceback, that it was never terminated.
    atexit.register(threads.terminate)
    return threads


def stop_if_active(hook: AgentTaskHook, task_id: str, agent_id: str | None) -> str:
    """Stop an agent task unless it has ended, and return the end of a sentence that says what was done."""
    try:
        task = hook.get_task(task_id, agent_id)
    except AgentTaskError as error:
        if not error.is_transient:
            raise
    else:
        if task.is_terminal:
            return f"; its agent task had ended before: {task}."
    task = hook.stop_task(task_id, agent_id)
    return f", so agent task {task.task_id} was stopped (now {task.status})."


def _wait_until(condition: Callable[[], bool]) -> bool:
    """
    Wait until the database shows what Airflow has notified this listener of; False if it never does.

    Listeners are called before the commit, which may fail.
    """
    deadline = time.monotonic() + SECONDS_TO_COMMIT
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
