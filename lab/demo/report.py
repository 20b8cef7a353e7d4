"""Reads finished runs, compares them with the expected ones, and prints them."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.cluster.airflow_api import AirflowApi, TaskInstance
from lab.command_line import print_table
from lab.demo.expected_runs import ExpectedRun, ExpectedTask

GOOD_STATES = ("success", "skipped")
XCOM_KEYS = ("task_id", "status", "exit_code")
#: The XCom with an agent's questions and their answers.
ANSWERS_KEY = "answers"
#: The XComs with what an agent made and used.
ARTIFACTS_KEY = "artifacts"
USAGE_KEY = "usage"


@dataclass(frozen=True)
class FinishedTask:
    """A task of a finished run, with the XComs about its agent task."""

    task: TaskInstance
    xcoms: Mapping[str, Any]

    @property
    def answers(self) -> list[dict[str, Any]]:
        """The agent's questions, each with its reply and the sender."""
        return self.xcoms.get(ANSWERS_KEY) or []

    @property
    def artifacts(self) -> list[dict[str, Any]]:
        """The files that the agent made."""
        return self.xcoms.get(ARTIFACTS_KEY) or []


@dataclass(frozen=True)
class FinishedRun:
    """A finished run with all its tasks."""

    dag_id: str
    state: str
    tasks: Sequence[FinishedTask]


def read_run(api: AirflowApi, dag_id: str, run_id: str) -> FinishedRun:
    """Read a run, its tasks and their XComs from Airflow."""
    keys = (*XCOM_KEYS, ANSWERS_KEY, ARTIFACTS_KEY, USAGE_KEY)
    tasks = [FinishedTask(task, api.read_xcoms(task, keys)) for task in api.list_tasks(dag_id, run_id)]
    return FinishedRun(dag_id, api.read_run_state(dag_id, run_id), tasks)


def compare(expected: ExpectedRun, run: FinishedRun) -> list[str]:
    """Return a line for every difference from the expected run."""
    differences = []
    if run.state != expected.state:
        differences.append(f"{run.dag_id}: expected the run to end as {expected.state}, not {run.state}")
    for task_id in sorted({entry.task.task_id for entry in run.tasks} - set(expected.tasks)):
        differences.append(f"{run.dag_id}.{task_id}: a task that is not in expected_runs.py")
    for task_id, expected_task in expected.tasks.items():
        found = [entry for entry in run.tasks if entry.task.task_id == task_id]
        if len(found) != expected_task.count:
            differences.append(
                f"{run.dag_id}.{task_id}: expected {expected_task.count} task instances, found {len(found)}"
            )
        for entry in found:
            differences += _compare_task(expected_task, entry)
    return differences


def _compare_task(expected: ExpectedTask, entry: FinishedTask) -> list[str]:
    answers = [f"{one['answered_by']['name']}: {one['reply']}" for one in entry.answers if one["sent"]]
    checks = [
        ("state", expected.state, entry.task.state),
        ("tries", expected.tries, entry.task.tries),
        ("agent task status", expected.status, entry.xcoms.get("status")),
        ("exit code", expected.exit_code, entry.xcoms.get("exit_code")),
        ("answers", list(expected.answers), answers),
        ("artifacts", expected.artifacts, len(entry.artifacts)),
        ("usage", expected.usage, entry.xcoms.get(USAGE_KEY)),
    ]
    return [
        f"{entry.task.dag_id}.{entry.task.label}: expected {name} {wanted}, found {actual}"
        for name, wanted, actual in checks
        if wanted is not None and actual != wanted
    ]


def print_tasks(runs: Sequence[FinishedRun]) -> None:
    """Print a line for every task of these runs."""
    headings = ("DAG", "task", "state", "agent task", "status", "exit code", "seconds", "tries")
    rows = [
        (
            run.dag_id,
            entry.task.label,
            entry.task.state,
            *(entry.xcoms.get(key) for key in XCOM_KEYS),
            None if entry.task.seconds is None else f"{entry.task.seconds:.1f}",
            entry.task.tries,
        )
        for run in runs
        for entry in run.tasks
    ]
    print_table(headings, rows)


def print_questions(runs: Sequence[FinishedRun]) -> None:
    """Print a line for every question that an agent asked in these runs, with its reply."""
    headings = ("DAG", "task", "question", "reply", "answered by", "sent")
    rows = [
        (
            run.dag_id,
            entry.task.label,
            f"{answer['number']}: {answer['question']}",
            answer["reply"],
            answer["answered_by"]["name"],
            "yes" if answer["sent"] else "no",
        )
        for run in runs
        for entry in run.tasks
        for answer in entry.answers
    ]
    print_table(headings, rows)


def print_artifacts(runs: Sequence[FinishedRun]) -> None:
    """Print a line for every file that an agent made in these runs."""
    headings = ("DAG", "task", "file", "type", "bytes")
    rows = [
        (run.dag_id, entry.task.label, artifact["name"], artifact.get("type"), artifact.get("size"))
        for run in runs
        for entry in run.tasks
        for artifact in entry.artifacts
    ]
    print_table(headings, rows)


def print_database(database: Path) -> int:
    """Print every table of the SQLite file and return the number of rows."""
    if not database.exists():
        print(f"{database} was not written")
        return 0
    count = 0
    with closing(sqlite3.connect(database)) as connection:
        for (name,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall():
            rows = connection.execute(f'select * from "{name}"')  # noqa: S608 - the name is the file's own
            headings = [column[0] for column in rows.description]
            content = rows.fetchall()
            print_table(headings, content)
            count += len(content)
    return count


def print_failures(api: AirflowApi, runs: Sequence[FinishedRun], *, lines: int = 8) -> None:
    """Print the last lines of the log of every task that was started and failed."""
    tasks = [entry.task for run in runs for entry in run.tasks if entry.task.tries]
    for task in (task for task in tasks if task.state not in GOOD_STATES):
        print(f"\nThe end of the log of {task.dag_id}.{task.label}, try {task.tries}:")
        messages = [
            line for line in api.read_log(task) if "::group::" not in line and "::endgroup::" not in line
        ]
        print("\n".join(f"    {line}" for line in messages[-lines:]))
