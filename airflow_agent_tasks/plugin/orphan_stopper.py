"""
Stops, in threads, the agent tasks of Airflow tasks that the API server or the scheduler has ended.

Some threads query the database for abandoned agent tasks. Each connection has threads of its own, so that a
service that does not respond does not delay stops on another one.

Everything is imported here at the top, and this module before the threads start: LocalExecutor forks the
scheduler, and a process that is forked while a thread imports a module can never import that module.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - the first lookup of a host name imports it, in a thread
import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module

from airflow.providers.common.compat.sdk import Stats  # noqa: F401 - the first metric imports it, in a thread

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.airflow_compat.ended_tasks import (
    REPLACED,
    EndedTask,
    has_run_ended,
    is_committed,
    list_passed_over,
    read_record,
)
from airflow_agent_tasks.airflow_compat.xcom_rows import note_end
from airflow_agent_tasks.client import sync_client  # noqa: F401 - hooks import it when they send
from airflow_agent_tasks.documentation import STILL_RUNNING
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.hooks.find_hook import find_hook
from airflow_agent_tasks.lifecycle.measurements import measure_stop
from airflow_agent_tasks.lifecycle.stop import describe_stop
from airflow_agent_tasks.operations.stop import stop_if_active
from airflow_agent_tasks.plugin.background_calls import BackgroundCalls
from airflow_agent_tasks.provider_info import get_provider_info
from airflow_agent_tasks.telemetry.reporter import Reporter

log = logging.getLogger(__name__)

#: Number of threads that query the database, and of threads for each connection. A service that does not
#: respond must not block a request or the scheduler, nor occupy one thread per task.
THREADS = 4
#: Seconds for Airflow to commit the end of a task or run after it has notified listeners.
SECONDS_TO_COMMIT = 10.0
#: Seconds between two checks for that commit.
COMMIT_POLL = 0.2

# Airflow imports them by name, in a thread.
for _connection_type in get_provider_info()["connection-types"]:
    import_module(_connection_type["hook-class-name"].rpartition(".")[0])

_of_database = BackgroundCalls(THREADS)
_of_connections: dict[str, BackgroundCalls] = {}

#: Yields the seconds until the next database query, so that waiting does not occupy a thread.
Waits = Generator[float, None, None]


def stop_in_background(ended: EndedTask) -> None:
    """Stop the agent task of an ended Airflow task; returns at once."""
    _of_database.start(partial(next, find_orphan(ended), None))


def stop_passed_over_in_background(dag_id: str, run_id: str) -> None:
    """Stop the agent tasks of an ended DAG run's skipped and removed tasks; returns at once."""
    _of_database.start(partial(next, find_passed_over(dag_id, run_id), None))


def find_passed_over(dag_id: str, run_id: str) -> Waits:
    """Stop the agent tasks of a run's skipped and removed tasks, once the database shows the run's end."""
    try:
        if not (yield from _until(partial(has_run_ended, dag_id, run_id))):
            log.warning(
                "DAG %s, run %s, ended, but the database still does not show this after %g s, so agent tasks "
                "of its skipped Airflow tasks may still be running. See %s",
                dag_id,
                run_id,
                SECONDS_TO_COMMIT,
                STILL_RUNNING,
            )
            return
        for ended in list_passed_over(dag_id, run_id):
            stop_in_background(ended)
    except Exception:
        log.exception(
            "Agent tasks of DAG %s, run %s, may still be running. See %s", dag_id, run_id, STILL_RUNNING
        )


def find_orphan(ended: EndedTask) -> Waits:
    """Stop the agent task that the record of an ended Airflow task names, once the database shows the end."""
    with _reported(ended):
        record = read_record(ended)
        # A higher max_tries comes from a later clear, whose next try started an agent task of its own.
        if record is None or record.task_id is None or (record.max_tries or 0) > ended.max_tries:
            return
        # A clear starts over: it stops the agent task regardless of on_kill_policy.
        if record.on_kill_policy != "stop" and ended.state != REPLACED:
            return
        if not (yield from _until(partial(is_committed, ended))):
            log.warning(
                "%s, but the database still does not show this after %g s, so agent task %s was not stopped",
                ended,
                SECONDS_TO_COMMIT,
                record.task_id,
            )
            return
        calls = _of_connections.setdefault(record.conn_id, BackgroundCalls(THREADS))
        calls.start(partial(stop_orphan, ended, record.conn_id, record.task_id, record.agent_id))


def stop_orphan(ended: EndedTask, conn_id: str, task_id: str, agent_id: str | None) -> None:
    """Stop the agent task that an ended Airflow task has abandoned, if it is still active."""
    with _reported(ended):
        hook, scope = find_hook(conn_id), ended.scope
        tags = {"dag_id": scope.dag_id, "task_id": scope.task_id}
        reporter = Reporter(conn_id, hook.dialect.service, tags)
        task, before = stop_if_active(hook, task_id, agent_id)
        if before is task:
            log.info("%s; its agent task had already ended: %s.", ended, task)
        else:
            if not (before and before.is_stopped):  # the trigger may have paused it already, and counted that
                reporter.report(measure_stop(task, before))
            joint = "so" if task.is_stopped else "but"
            log.info("%s, %s agent task %s %s.", ended, joint, task.task_id, describe_stop(task))
        _write_status(ended, task)


def _write_status(ended: EndedTask, task: AgentTask) -> None:
    try:
        note_end(ended.scope, task)
    except Exception as error:  # the agent task was stopped nevertheless
        log.warning("%s, but XCom does not show that its agent task is %s: %r", ended, task.status, error)


@contextmanager
def _reported(ended: EndedTask) -> Iterator[None]:
    """Log errors that keep an agent task from being stopped."""
    try:
        yield
    except AgentTaskError as error:
        log.warning("%s, but its agent task may still be running: %s See %s", ended, error, STILL_RUNNING)
    except Exception:
        log.exception("%s, but its agent task may still be running. See %s", ended, STILL_RUNNING)


def _until(condition: Callable[[], bool]) -> Generator[float, None, bool]:
    """
    Wait until the database shows the change that Airflow announced; return False if it never does.

    Airflow calls listeners before the commit, which may fail.
    """
    deadline = time.monotonic() + SECONDS_TO_COMMIT
    while not condition():
        if time.monotonic() > deadline:
            return False
        yield COMMIT_POLL
    return True
