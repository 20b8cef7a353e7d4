"""One run of a case: its own service, its Airflow task, what can be done to both, and what came of it."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import requests
from airflow_run import AirflowRun
from case import Case, Steps
from relay import Relay

from airflow_agent_tasks.sandbox import DEFAULT_AGENT_ID
from airflow_agent_tasks.sandbox.server import Sandbox

#: Where ``fault_dags.py`` looks for the cases.
CASES_FOLDER = "cases"
#: What the operator writes whenever it asks a person.
ASKED = re.compile(r"Question \d+ of the agent:")
ACTIVE_STATUSES = frozenset({"queued", "running", "awaiting_input", "paused"})


def read_task_id(stop: Mapping[str, Any]) -> str:
    """Return the remote task's id from the request that stopped it."""
    return str(stop["path"].split("/")[-2])


def list_messages(tasks: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what remote tasks were told."""
    return [str(message["message"]) for task in tasks for message in task["messages"]]


class CaseRun(AirflowRun):
    """
    A case with a service of its own, so that whatever is seen there belongs to it.

    :param case: The case.
    """

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.sandbox = Sandbox()
        self._stack = ExitStack()
        self._deliveries: list[Any] = []
        self._cancelled_elsewhere: set[str] = set()

    def __enter__(self) -> CaseRun:
        with self._stack:
            self._stack.enter_context(self.sandbox)
            self.relay = self._stack.enter_context(Relay(self.sandbox.url))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def environment(self) -> dict[str, str]:
        """The variable that defines the case's connection."""
        connection = {
            "conn_type": self.case.service,
            "host": self.relay.url if self.case.is_relayed else self.sandbox.url,
            "password": self.sandbox.api_key,
            "extra": {
                **({"agent_id": DEFAULT_AGENT_ID} if self.case.service == "shinzo" else {}),
                **self.case.connection_extra,
            },
        }
        return {f"AIRFLOW_CONN_{self.case.connection_id.upper()}": json.dumps(connection)}

    def write_dag(self, dags_folder: Path) -> None:
        """Write what ``fault_dags.py`` makes the case's DAG of."""
        folder = dags_folder / CASES_FOLDER
        folder.mkdir(exist_ok=True)
        (folder / f"{self.case.name}.json").write_text(json.dumps(self.case.to_json(), indent=2))

    # What is seen.

    @property
    def remote_tasks(self) -> list[dict[str, Any]]:
        """The remote tasks, the oldest first."""
        return self.sandbox.tasks()

    def list_requests(self, method: str, after: float = 0.0) -> list[dict[str, Any]]:
        """Return the requests that the service got after a moment, the oldest first."""
        return [
            entry for entry in self.sandbox.requests() if entry["method"] == method and entry["time"] > after
        ]

    @property
    def stops(self) -> list[dict[str, Any]]:
        """The requests by which Airflow's side stopped a remote task."""
        return [
            entry
            for entry in self.list_requests("POST")
            if entry["path"].endswith(("/cancel", "/pause"))
            and (entry["status"] or 500) < 300
            and read_task_id(entry) not in self._cancelled_elsewhere
        ]

    @property
    def is_waited_for(self) -> bool:
        """
        True when the triggerer or a worker waits: it has asked again after the worker's first check.

        In a case about questions: when the Airflow task is parked at one.
        """
        if self.case.ask:
            return self.is_parked
        wanted = "deferred" if self.case.waits_deferred else "running"
        return self.is_known and self.task.state == wanted and len(self.list_requests("GET")) >= 2

    def until_ended(self, *, tries: int = 0) -> Steps:
        """Wait for the Airflow task's end, in a certain try or a later one, and note what it delivered."""
        yield from super().until_ended(tries=tries)
        self.note_delivery()

    def until_stopped(self) -> Steps:
        """Wait until a remote task was stopped by Airflow's side."""
        yield from self.until(lambda: self.stops, "a remote task was stopped")

    def until_asked(
        self, number: int = 1, *, words: str = "", at_once: bool = False
    ) -> Generator[None, None, dict[str, Any]]:
        """
        Wait until the Airflow task is parked at a question, and return the form.

        :param number: Which question.
        :param words: What the form says.
        :param at_once: True to wait no longer. An answer is then held back by the API server, until the
            scheduler has heard of the worker's end; what is to be done at the same time would have to wait.
        """
        found: list[dict[str, Any]] = []

        def is_asked() -> bool:
            if self.is_parked and (at_once or self.has_left_worker):
                found[:] = self.cluster.api.list_questions(self.case.name)
            return any(
                form["subject"].startswith(f"Question {number}: ") and words in form["body"] for form in found
            )

        yield from self.until(is_asked, f"question {number} was asked")
        return found[0]

    # What is done.

    def answer(self, form: dict[str, Any], reply: str) -> None:
        """Answer a question in Airflow as a person does, with a form that was shown at some time."""
        self.cluster.api.answer(form, reply)

    def cancel_remote_task(self) -> None:
        """Cancel the newest remote task behind Airflow's back; on Shinzo."""
        self._cancelled_elsewhere.add(self.remote_tasks[-1]["task_id"])
        self._act_elsewhere("cancel", None)

    def tell_remote_task(self, message: str) -> None:
        """Tell the newest remote task something behind Airflow's back; on Shinzo."""
        self._act_elsewhere("message", {"message": message})

    def _act_elsewhere(self, what: str, body: Any) -> None:
        task = self.remote_tasks[-1]
        with requests.Session() as session:
            session.trust_env = False
            url = f"{self.sandbox.url}/agent/{task['agent_id']}/task/{task['task_id']}/{what}"
            headers = {"Authorization": f"Bearer {self.sandbox.api_key}"}
            session.post(url, json=body, headers=headers, timeout=10).raise_for_status()

    # What is judged.

    def note_delivery(self) -> None:
        """Note the result that the Airflow task has delivered, if it has."""
        value = self.cluster.api.read_xcoms(self.task).get("return_value")
        if value is not None:
            self._deliveries.append(value)

    def judge(self) -> None:
        """Compare what was seen with what was expected."""
        expected, outcome = self.case.expected, self.outcome
        tasks = self.remote_tasks
        stopped = {read_task_id(entry) for entry in self.stops}
        completed = {task["task_id"] for task in tasks if task["status"] == "completed"}
        delivered = {
            value["task_id"]
            for value in self._deliveries
            if value["task_id"] in completed and (value["result"], value["exit_code"]) == self._right_result
        }
        outcome.started = len(tasks)
        outcome.left_running = sum(
            task["status"] in ACTIVE_STATUSES
            and not (task["status"] == "paused" and task["task_id"] in stopped)
            for task in tasks
        )
        outcome.lost = expected.results - len(delivered) + len(self._deliveries) - len(delivered)
        seen = (
            ("remote tasks started", expected.started, outcome.started),
            ("remote tasks stopped", expected.stopped, len(stopped)),
            ("remote tasks left running", expected.left_running, outcome.left_running),
            ("results lost or wrong", 0, outcome.lost),
            ("questions to a person", expected.asked, len(ASKED.findall(self.read_logs()))),
            ("answers that were heard", list(expected.heard), list_messages(tasks)),
            ("state", expected.state, self.task.state if self.is_known else None),
            ("tries", expected.tries, self.task.tries if self.is_known else 0),
        )
        outcome.problems += [
            f"{what}: expected {wanted}, seen {actual}"
            for what, wanted, actual in seen
            if wanted not in (actual, None)
        ]

    @property
    def _right_result(self) -> tuple[Any, int | None]:
        return (self.case.result, 0 if self.case.service == "lightcone" else None)
