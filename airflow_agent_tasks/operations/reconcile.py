"""
Compares the records in Airflow's database with the services, to find what was left behind.

Neither service can list its agent tasks, so only those are found that have a record.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.airflow_compat.submission_rows import Criteria, SubmissionRow, list_submissions
from airflow_agent_tasks.errors import AgentTaskError, AgentTaskNotFoundError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.hooks.find_hook import find_hook
from airflow_agent_tasks.operations.actions import read_agent_task

#: Requests to the services at a time.
THREADS = 4
#: Seconds after which a start that still has no response no longer counts as being sent.
START_SECONDS = 600.0

#: An agent that runs for an Airflow task that has ended.
ABANDONED = "abandoned"
#: The same, but the arguments of the Airflow task say that its agent may outlive it.
DETACHED = "detached"
#: An agent that runs for an Airflow task that was cleared, and whose next try has not begun.
CLEARED = "cleared"
#: It was abandoned, and has been stopped.
STOPPED = "stopped"
#: An Airflow task that waits for an agent task that its service does not have.
GONE = "gone"
#: A start without a response: an agent may be running that no record names.
UNCERTAIN = "uncertain"
#: A record that names no agent task.
DAMAGED = "damaged"
#: An agent task whose service or connection gives no answer.
UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Leftover:
    """
    A submission for which Airflow and its service do not agree.

    :param row: The submission.
    :param kind: One of the constants of this module.
    :param details: What was found, as a sentence.
    :param remedy: What to do about it, as a sentence.
    """

    row: SubmissionRow
    kind: str
    details: str
    remedy: str


def find_leftovers(now: datetime, days: float) -> Iterator[Leftover]:
    """
    Yield what was left behind; changes nothing.

    :param now: The time, with its zone.
    :param days: How many days to look back.
    """
    rows = list_submissions(Criteria(since=now - timedelta(days=days), is_active=True))
    # A key of the user's own may have given the same agent task to several Airflow tasks.
    awaited = {_identify(row) for row in rows if not row.has_ended} - {None}
    examined = [row for row in rows if not (row.has_ended and _identify(row) in awaited)]
    hooks = _Hooks()
    with ThreadPoolExecutor(THREADS) as pool:
        yield from filter(None, pool.map(lambda row: _examine(row, now, hooks), examined))


def list_abandoned(leftovers: Iterable[Leftover]) -> list[Leftover]:
    """Return those whose agents can be stopped without harm to anything that waits for them."""
    return [one for one in leftovers if one.kind == ABANDONED]


def _identify(row: SubmissionRow) -> tuple[str, str | None, str] | None:
    """Return what tells an agent task from others; None if the record names none."""
    if row.record is None or row.record.task_id is None:
        return None
    return row.record.conn_id, row.record.agent_id, row.record.task_id


class _Hooks(threading.local):
    """One hook for each connection and thread, so that their HTTP connections are used again."""

    def __init__(self) -> None:
        self._hooks: dict[str, AgentTaskHook] = {}

    def find(self, conn_id: str) -> AgentTaskHook:
        """Return the hook; raises AgentTaskError if there is no such connection."""
        if conn_id not in self._hooks:
            self._hooks[conn_id] = find_hook(conn_id)
        return self._hooks[conn_id]


def _examine(row: SubmissionRow, now: datetime, hooks: _Hooks) -> Leftover | None:
    if row.is_elsewhere:
        return Leftover(
            row,
            UNREACHABLE,
            "Its record is in the [workers] state_store_backend, which this command cannot read.",
            "Use the task's log to find its agent task.",
        )
    if row.record is None:
        return Leftover(
            row,
            DAMAGED,
            "The record in Airflow's task state store names no agent task.",
            "Search the service for its agent task, and stop it. Then delete the key agent_task, and clear "
            "the task.",
        )
    if row.record.task_id is None:
        return _examine_start(row, now)
    try:
        task = read_agent_task(row, hooks.find(row.record.conn_id))
    except AgentTaskNotFoundError:
        if row.has_ended:
            return None
        remedy = "The next try starts a new one."
        if row.state in ("running", "deferred", "awaiting_input"):
            remedy = "The Airflow task fails at its next status check. If it does not, check the triggerer."
        return Leftover(row, GONE, f"The service does not have agent task {row.record.task_id}.", remedy)
    except AgentTaskError as error:
        return Leftover(row, UNREACHABLE, str(error), "Repair the connection, and run this command again.")
    return None if task.is_stopped else _examine_active(row, task)


def _examine_start(row: SubmissionRow, now: datetime) -> Leftover | None:
    age = (now - row.updated_at).total_seconds()
    if row.state == "running" and age < START_SECONDS:
        return None  # it is just being sent
    key = row.record.idempotency_key if row.record else ""
    remedy = "The next try finds out, or fails and says what to do."
    if row.has_ended:
        remedy = "Search the service for a task with this key in its metadata, and stop it if it runs."
    return Leftover(
        row, UNCERTAIN, f"The start with the idempotency key {key!r} has got no response.", remedy
    )


def _examine_active(row: SubmissionRow, task: AgentTask) -> Leftover | None:
    command = f"airflow agent-tasks stop {shlex.quote(task.task_id)}"
    if row.awaits_next_try:
        details = f"{task} goes on, but its Airflow task was cleared, and its next try has not begun."
        remedy = f"The next try stops it. To stop it now, and to mark the Airflow task failed: {command}"
        return Leftover(row, CLEARED, details, remedy)
    if not row.has_ended:
        return None
    details = f"{task} goes on, but its Airflow task has ended ({row.state or 'deleted'})."
    if row.record and row.record.on_kill_policy == "stop":
        return Leftover(row, ABANDONED, details, f"Stop it: {command}")
    return Leftover(
        row, DETACHED, details, f"Its task does not wait for it, as its DAG says. To stop it: {command}"
    )
