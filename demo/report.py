"""The demo's tables and checks: what was expected of each run, and what was seen."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_api import AirflowApi, TaskInstance

GOOD_STATES = ("success", "skipped")
XCOM_KEYS = ("task_id", "status", "exit_code")
#: The XCom with the questions of an agent, and who replied what.
ANSWERS_KEY = "answers"


@dataclass(frozen=True)
class ExpectedTask:
    """
    How a task has to end.

    :param state: Airflow's word.
    :param count: How many there are of it; more than one where the task is mapped.
    :param tries: How often each is started, or None where that does not matter.
    :param status: The agent task's final status, or None where that does not matter.
    :param exit_code: What the agent task ends with, or None where that does not matter.
    :param answers: Who sent which reply to each of its questions, as ``name: reply``.
    """

    state: str = "success"
    count: int = 1
    tries: int | None = None
    status: str | None = None
    exit_code: int | None = None
    answers: Sequence[str] = ()


@dataclass(frozen=True)
class ExpectedRun:
    """
    How a run of a DAG has to end.

    :param state: Airflow's word for the run.
    :param tasks: What is expected of every task of the DAG, by its id.
    """

    state: str
    tasks: Mapping[str, ExpectedTask]


@dataclass(frozen=True)
class SeenTask:
    """A task of a finished run, and what it left about its agent task."""

    task: TaskInstance
    xcoms: Mapping[str, Any]

    @property
    def answers(self) -> list[dict[str, Any]]:
        """What its agent asked, and who replied what."""
        return self.xcoms.get(ANSWERS_KEY) or []


@dataclass(frozen=True)
class SeenRun:
    """A finished run with all its tasks."""

    dag_id: str
    state: str
    tasks: Sequence[SeenTask]


def read_run(api: AirflowApi, dag_id: str, run_id: str) -> SeenRun:
    """Ask Airflow for everything that is reported about a run."""
    keys = (*XCOM_KEYS, ANSWERS_KEY)
    tasks = [SeenTask(task, api.read_xcoms(task, keys)) for task in api.list_tasks(dag_id, run_id)]
    return SeenRun(dag_id, api.read_run_state(dag_id, run_id), tasks)


def compare(expected: ExpectedRun, seen: SeenRun) -> list[str]:
    """Return a line for everything about the run that is not as expected."""
    differences = []
    if seen.state != expected.state:
        differences.append(f"{seen.dag_id}: expected the run to end as {expected.state}, seen {seen.state}")
    for task_id in sorted({entry.task.task_id for entry in seen.tasks} - set(expected.tasks)):
        differences.append(f"{seen.dag_id}.{task_id}: a task that the table in run_demo.py does not name")
    for task_id, wish in expected.tasks.items():
        found = [entry for entry in seen.tasks if entry.task.task_id == task_id]
        if len(found) != wish.count:
            differences.append(f"{seen.dag_id}.{task_id}: expected {wish.count} of it, seen {len(found)}")
        for entry in found:
            differences += _compare_task(wish, entry)
    return differences


def _compare_task(wish: ExpectedTask, entry: SeenTask) -> list[str]:
    answers = [f"{one['answered_by']['name']}: {one['reply']}" for one in entry.answers if one["sent"]]
    checks = [
        ("state", wish.state, entry.task.state),
        ("tries", wish.tries, entry.task.tries),
        ("agent task status", wish.status, entry.xcoms.get("status")),
        ("exit code", wish.exit_code, entry.xcoms.get("exit_code")),
        ("answers", list(wish.answers), answers),
    ]
    return [
        f"{entry.task.dag_id}.{entry.task.label}: expected {name} {wanted}, seen {actual}"
        for name, wanted, actual in checks
        if wanted is not None and actual != wanted
    ]


def print_tasks(runs: Sequence[SeenRun]) -> None:
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


def print_questions(runs: Sequence[SeenRun]) -> None:
    """Print a line for every question that an agent asked in these runs, and who replied what."""
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


def print_answers(database: Path) -> int:
    """Print every table of the SQLite file and return the number of its rows."""
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


def print_failures(api: AirflowApi, runs: Sequence[SeenRun], *, lines: int = 8) -> None:
    """Print the end of the log of every task that was started and did not end well."""
    tasks = [entry.task for run in runs for entry in run.tasks if entry.task.tries]
    for task in (task for task in tasks if task.state not in GOOD_STATES):
        print(f"\nThe end of the log of {task.dag_id}.{task.label}, try {task.tries}:")
        messages = [
            line for line in api.read_log(task) if "::group::" not in line and "::endgroup::" not in line
        ]
        print("\n".join(f"    {line}" for line in messages[-lines:]))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[Any]], *, limit: int = 60) -> None:
    """Print columns as wide as their content, at most ``limit`` characters; what is missing shows as "-"."""
    texts = [[_describe(value, limit) for value in row] for row in rows]
    widths = [max(len(line[column]) for line in [list(headings), *texts]) for column in range(len(headings))]
    for line in [list(headings), ["-" * width for width in widths], *texts]:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _describe(value: Any, limit: int) -> str:
    text = "-" if value is None else " ".join(str(value).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
