"""One run of a case of this package, with its own sandbox as the service, behind a proxy that can fail."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from airflow_agent_tasks.sandbox import DEFAULT_AGENT_ID
from airflow_agent_tasks.sandbox.server import Sandbox
from lab.faults.artifacts_folder import ArtifactsFolder
from lab.faults.case_definition import Case, Steps
from lab.faults.case_run import CaseRun
from lab.faults.fault_proxy import FaultProxy

#: Where ``fault_dags.py`` looks for the cases.
CASES_FOLDER = "cases"
#: The operator's log line for every question that it asks in Airflow.
ASKED = re.compile(r"Question \d+ from the agent:")
#: The path of a request that starts a remote task, as a regular expression.
START_PATH = r"^/agent/(tasks(/stream)?|request/[^/]+)$"
ACTIVE_STATUSES = frozenset({"queued", "running", "awaiting_input", "paused"})


def read_task_id(stop: Mapping[str, Any]) -> str:
    """Return the remote task's id from the request that stopped it."""
    return str(stop["path"].split("/")[-2])


def list_messages(tasks: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the messages that remote tasks received."""
    return [str(message["message"]) for task in tasks for message in task["messages"]]


def load_result(result: Any) -> Any:
    """Return a delivered result, from the file that it names if it was too large for XCom."""
    if isinstance(result, dict) and "path" in result:
        return json.loads(Path(urlsplit(result["path"]).path).read_text())
    return result


def post(url: str, body: Any, headers: Mapping[str, str] | None = None) -> None:
    """Send a request that must succeed, without the user's proxy settings."""
    with requests.Session() as session:
        session.trust_env = False
        session.post(url, json=body, headers=headers, timeout=10).raise_for_status()


class OurCaseRun(CaseRun):
    """
    A case with its own sandbox, where every request belongs to this case.

    :param case: The case.
    """

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.sandbox = Sandbox()
        self._stack = ExitStack()
        self._deliveries: list[Any] = []
        self._cancelled_elsewhere: set[str] = set()

    def __enter__(self) -> OurCaseRun:
        with self._stack:
            self._stack.enter_context(self.sandbox)
            self.proxy = self._stack.enter_context(FaultProxy(self.sandbox.url))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variable with the case's connection."""
        connection = {
            "conn_type": self.case.service,
            "host": self.proxy.url if self.case.uses_fault_proxy else self.sandbox.url,
            "password": self.sandbox.api_key,
            "extra": {
                **({"agent_id": DEFAULT_AGENT_ID} if self.case.service == "shinzo" else {}),
                **self.case.connection_extra,
            },
        }
        return {f"AIRFLOW_CONN_{self.case.connection_id.upper()}": json.dumps(connection)}

    def write_dag(self, dags_folder: Path, artifacts_folder: Path) -> None:
        """Write the file from which ``fault_dags.py`` builds the case's DAG."""
        self.artifacts = ArtifactsFolder(artifacts_folder / self.case.name)
        self._dag_file = dags_folder / CASES_FOLDER / f"{self.case.name}.json"
        self._dag_file.parent.mkdir(exist_ok=True)
        self._write_dag(has_artifacts_path=self.case.has_artifacts_path)

    def _write_dag(self, *, has_artifacts_path: bool) -> None:
        dag = self.case.to_json()
        if has_artifacts_path:
            dag["arguments"]["artifacts_path"] = self.artifacts.url
        # At once: the DAG processor may be reading it.
        draft = self._dag_file.with_suffix(".draft")
        draft.write_text(json.dumps(dag, indent=2))
        draft.replace(self._dag_file)

    # The state on the service.

    @property
    def remote_tasks(self) -> list[dict[str, Any]]:
        """The remote tasks, the oldest first."""
        return self.sandbox.tasks()

    def list_requests(self, method: str, after: float = 0.0) -> list[dict[str, Any]]:
        """Return the requests that the service received after a moment, the oldest first."""
        return [
            entry for entry in self.sandbox.requests() if entry["method"] == method and entry["time"] > after
        ]

    @property
    def starts(self) -> list[dict[str, Any]]:
        """The requests to start a remote task, the oldest first."""
        return [entry for entry in self.list_requests("POST") if re.search(START_PATH, entry["path"])]

    @property
    def deliveries(self) -> list[dict[str, Any]]:
        """The calls that the service has made to Airflow, by remote task, and what Airflow responded."""
        return [delivery for task in self.remote_tasks for delivery in task["webhook_deliveries"]]

    @property
    def stops(self) -> list[dict[str, Any]]:
        """The requests with which Airflow's side stopped a remote task."""
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
        True when the triggerer or a worker waits, that is, has checked again after the worker's first check.

        In a case about questions: True when the Airflow task is parked at a question. In one about callbacks:
        True when a triggerer has the trigger.
        """
        if self.case.ask:
            return self.is_parked
        if self.case.is_called_back:
            return self.is_known and self.task.triggerer_id is not None
        wanted = "deferred" if self.case.waits_deferred else "running"
        return self.is_known and self.task.state == wanted and len(self.list_requests("GET")) >= 2

    def until_ended(self, *, tries: int = 0) -> Steps:
        """Wait for the Airflow task's end, in this try or a later one, and note its result."""
        yield from super().until_ended(tries=tries)
        self.note_delivery()

    def until_stopped(self) -> Steps:
        """Wait until Airflow's side has stopped a remote task."""
        yield from self.until(lambda: self.stops, "a remote task was stopped")

    def until_asked(self, number: int = 1, *, at_once: bool = False) -> Generator[None, None, dict[str, Any]]:
        """
        Wait until the Airflow task is parked at a question, and return the form.

        :param number: The question's number.
        :param at_once: True to return while the worker is still exiting. The API server delays an answer
            until the scheduler has seen that exit, and a case that answers earlier blocks all others.
        """
        found: list[dict[str, Any]] = []

        def is_asked() -> bool:
            if self.is_parked and (at_once or self.has_worker_exited):
                found[:] = [
                    form
                    for form in self.cluster.api.list_questions(self.case.dag_id)
                    if form["task_instance"]["id"] == self.task.instance_id
                ]
            return any(form["subject"].startswith(f"Question {number}: ") for form in found)

        yield from self.until(is_asked, f"question {number} was asked")
        return found[0]

    # Actions.

    def set_artifacts_path(self) -> None:
        """Set ``artifacts_path`` in the DAG file, as a user does after a failure."""
        self._write_dag(has_artifacts_path=True)

    def answer(self, form: dict[str, Any], reply: str) -> None:
        """Answer a question in Airflow as a user does, with a form that was opened earlier."""
        self.cluster.api.answer(form, reply)

    def cancel_remote_task(self) -> None:
        """Cancel the newest remote task behind Airflow's back; Shinzo only."""
        self._cancelled_elsewhere.add(self.remote_tasks[-1]["task_id"])
        self._act_elsewhere("cancel", None)

    def message_remote_task(self, message: str) -> None:
        """Send the newest remote task a message behind Airflow's back; Shinzo only."""
        self._act_elsewhere("message", {"message": message})

    def _act_elsewhere(self, what: str, body: Any) -> None:
        task = self.remote_tasks[-1]
        url = f"{self.sandbox.url}/agent/{task['agent_id']}/task/{task['task_id']}/{what}"
        post(url, body, {"Authorization": f"Bearer {self.sandbox.api_key}"})

    def call_back(self, place: int = -1) -> None:
        """Call Airflow as the service does when a remote task changes; default: the newest one."""
        task = self.remote_tasks[place]
        post(task["request"]["webhook_url"], {"task_id": task["task_id"], "status": task["status"]})

    # The outcome.

    def note_delivery(self) -> None:
        """Note the result in the Airflow task's XCom, if there is one."""
        value = self.cluster.api.read_xcoms(self.task).get("return_value")
        if value is not None:
            self._deliveries.append(value)

    def check_outcome(self) -> None:
        """Note every difference from the expected outcome."""
        expected, outcome = self.case.expected, self.outcome
        tasks = self.remote_tasks
        stopped = {read_task_id(entry) for entry in self.stops}
        completed = {task["task_id"] for task in tasks if task["status"] == "completed"}
        delivered = {
            value["task_id"]
            for value in self._deliveries
            if value["task_id"] in completed
            and (load_result(value["result"]), value["exit_code"]) == self._expected_result
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
            ("questions asked in Airflow", expected.asked, len(ASKED.findall(self.read_logs()))),
            ("messages received", list(expected.received), list_messages(tasks)),
            ("state", expected.state, self.task.state if self.is_known else None),
            ("tries", expected.tries, self.task.tries if self.is_known else 0),
        )
        outcome.problems += [
            f"{what}: expected {wanted}, seen {actual}"
            for what, wanted, actual in seen
            if wanted not in (actual, None)
        ]

    @property
    def _expected_result(self) -> tuple[Any, int | None]:
        return (self.case.result, 0 if self.case.service == "lightcone" else None)
