"""The commands that list agent tasks and act on them: ``airflow agent-tasks list``, ``show``, ``stop``, …"""

from __future__ import annotations

import argparse
import getpass
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_agent_tasks.airflow_compat.console import print_rows
from airflow_agent_tasks.airflow_compat.deployment import read_connections_as_a_server, require_database
from airflow_agent_tasks.airflow_compat.submission_rows import Criteria, SubmissionRow, list_submissions
from airflow_agent_tasks.errors import AgentTaskArgumentError, AgentTaskError
from airflow_agent_tasks.operations.actions import act, read_agent_task
from airflow_agent_tasks.operations.description import describe, describe_now
from airflow_agent_tasks.operations.reconcile import (
    DETACHED,
    STOPPED,
    Leftover,
    find_leftovers,
    list_abandoned,
)
from airflow_agent_tasks.text import shorten

#: How far back an agent task is looked for, whose id the user names.
SEARCH_DAYS = 365.0
#: What ``list`` shows in a table, which is narrow; the other formats have everything.
TABLE_COLUMNS = (
    "dag_id",
    "run_id",
    "task",
    "state",
    "service",
    "agent_task_id",
    "agent_state",
    "step",
    "usage",
)


def list_tasks(options: argparse.Namespace) -> None:
    """Print the agent tasks of the last days, the newest first."""
    criteria = Criteria(
        since=_count_back(options.days),
        dag_id=options.dag_id,
        run_id=options.run_id,
        task_id=options.task_id,
        states=options.state or (),
        agent_states=options.agent_state or (),
        text=options.text,
        is_active=options.active,
    )
    with _as_a_command():
        rows = [describe(row) for row in list_submissions(criteria, limit=options.limit)]
    if options.output in ("table", "plain"):
        rows = [{key: _complete(row)[key] for key in ("submitted", *TABLE_COLUMNS)} for row in rows]
    print_rows(rows, options.output)


def show_task(options: argparse.Namespace) -> None:
    """Print everything about one agent task, as its service describes it now."""
    with _as_a_command():
        row = _find_all(options.agent_task_id)[0]
        shown = describe_now(row, read_agent_task(row))
    if options.output in ("table", "plain"):
        print_rows(
            [{"field": key, "value": value} for key, value in _complete(shown).items()], options.output
        )
    else:
        print_rows([shown], options.output)


def send_message(options: argparse.Namespace) -> None:
    """Send a message to an agent; with "-", the text from standard input, which no process list shows."""
    _act(options, "message", sys.stdin.read() if options.message == "-" else options.message)


def pause_task(options: argparse.Namespace) -> None:
    """Pause an agent task."""
    _act(options, "pause")


def resume_task(options: argparse.Namespace) -> None:
    """Resume a paused agent task."""
    _act(options, "resume")


def stop_task(options: argparse.Namespace) -> None:
    """Stop an agent task, and mark its Airflow task as failed."""
    _act(options, "stop")


def reconcile(options: argparse.Namespace) -> None:
    """
    Print what was left behind, and stop the abandoned agent tasks if the user says so.

    The exit status is 1 if something is left to do; agents that may outlive their tasks are none of that.
    """
    with _as_a_command():
        leftovers = list(find_leftovers(datetime.now(timezone.utc), options.days))
        stops = options.stop and not options.dry_run
        done = {id(one): _stop_abandoned(one) for one in list_abandoned(leftovers)} if stops else {}
    shown = [_describe_leftover(done.get(id(one), one)) for one in leftovers]
    print_rows(shown, options.output)
    if any(one["finding"] not in (STOPPED, DETACHED) for one in shown):
        raise SystemExit(1)


def _stop_abandoned(leftover: Leftover) -> Leftover:
    try:
        happened = act(leftover.row, "stop", user=_name_user())
    except AgentTaskError as error:
        return replace(leftover, details=str(error))
    return replace(leftover, kind=STOPPED, details=happened, remedy="")


def _describe_leftover(leftover: Leftover) -> dict[str, Any]:
    row = describe(leftover.row)
    names = ("dag_id", "run_id", "task_id", "map_index", "state", "conn_id", "agent_task_id")
    return {
        "finding": leftover.kind,
        **{name: row[name] for name in names},
        "details": shorten(leftover.details, 500),
        "remedy": leftover.remedy,
    }


def _act(options: argparse.Namespace, action: str, message: str | None = None) -> None:
    with _as_a_command():
        first, *others = _find_all(options.agent_task_id)
        # The other tasks first: the retry of one that is not marked would start another agent.
        for row in others if action == "stop" else ():
            if row.is_open:
                act(row, action, user=_name_user())
        happened = act(first, action, user=_name_user(), message=message)
    print(happened)


def _find_all(agent_task_id: str) -> list[SubmissionRow]:
    """Return the submissions with an agent task's id, the latest first; several may share one."""
    found = [
        row
        for row in list_submissions(Criteria(since=_count_back(SEARCH_DAYS), text=agent_task_id))
        if row.record and row.record.task_id == agent_task_id
    ]
    if not found:
        raise AgentTaskArgumentError(
            f"No Airflow task has a record of agent task {shorten(agent_task_id)!r}. "
            "Find it with: airflow agent-tasks list"
        )
    if len({row.record.conn_id for row in found if row.record}) > 1:
        owners = "; ".join(map(str, found))
        raise AgentTaskArgumentError(
            f"Agent tasks of several connections have the id {shorten(agent_task_id)!r}: {owners}"
        )
    return found


def _complete(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row for a table: the time in words, and the task with its index."""
    index = f"[{row['map_index']}]" if row["map_index"] >= 0 else ""
    at = row["submitted_at"]
    submitted = datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="seconds") if at else ""
    actions = ", ".join(row["actions"])
    return {**row, "submitted": submitted, "task": f"{row['task_id']}{index}", "actions": actions}


def _count_back(days: float) -> datetime:
    return datetime.now(timezone.utc) - timedelta(days=days)


def _name_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        return "unknown"


@contextmanager
def _as_a_command() -> Iterator[None]:
    """Print an error as one sentence, and keep Airflow's own log lines out of the output."""
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    read_connections_as_a_server()
    try:
        require_database()
        yield
    except (AgentTaskError, FileNotFoundError) as error:
        sys.exit(f"{error}")
    finally:
        logging.disable(logging.NOTSET)
