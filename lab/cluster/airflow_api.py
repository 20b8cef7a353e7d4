"""The calls to Airflow's public REST API that the lab and the tests need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import requests


class AirflowApiError(Exception):
    """Airflow rejected a request, or did not respond to it."""


class AirflowUnreachableError(AirflowApiError):
    """Airflow did not respond."""


@dataclass(frozen=True)
class TaskInstance:
    """
    One task instance of a DAG run, as the REST API reports it.

    :param map_index: The index within a mapped task; -1 if the task is not mapped.
    :param state: Its state in Airflow, or None before it was scheduled.
    :param tries: The number of times it was started.
    :param seconds: Seconds from its start to its end, including the time deferred; None until it has ended.
    :param queued_at: When it was last sent to an executor, in Airflow's format; None before that.
    :param instance_id: The id of this try, which the processes of its worker have in their titles.
    :param triggerer_id: The triggerer that runs its trigger, or None.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    state: str | None
    tries: int
    seconds: float | None
    queued_at: str | None
    instance_id: str
    triggerer_id: int | None

    @property
    def label(self) -> str:
        """The task's id, with the map index in brackets if it has one."""
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"


class AirflowApi:
    """
    A client of one API server whose simple auth manager treats everyone as an admin.

    :param base_url: The address of the Airflow UI.
    :param on_unreachable: Called after a request without a response; returns True if the server had crashed
        and has been restarted.
    """

    def __init__(self, base_url: str, *, on_unreachable: Callable[[], bool] = lambda: False) -> None:
        self.base_url = base_url
        self._on_lost = on_unreachable
        self._session = requests.Session()
        # The user's proxy settings and .netrc must not apply to an address on this machine.
        self._session.trust_env = False

    def request(
        self, method: str, path: str, *, parameters: dict[str, Any] | None = None, body: Any = None
    ) -> Any:
        """
        Send a request as an admin and return its JSON; send it again if ``on_unreachable`` returns True.

        :param path: The path below ``/api/v2``.
        :raises AirflowApiError: Airflow returned an error, or did not respond.
        """
        try:
            return self._send_as_admin(method, path, params=parameters, json=body)
        except AirflowUnreachableError:
            if not self._on_lost():
                raise
            return self.request(method, path, parameters=parameters, body=body)

    def _send_as_admin(self, method: str, path: str, **arguments: Any) -> Any:
        if "Authorization" not in self._session.headers:
            self._session.headers["Authorization"] = f"Bearer {self.request_token()}"
        return self._send(method, f"/api/v2{path}", **arguments)

    def request_token(self) -> str:
        """Return a new token of an admin."""
        return str(self._send("GET", "/auth/token")["access_token"])

    def _send(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            response = self._session.request(method, self.base_url + path, timeout=30, **arguments)
        except requests.RequestException as error:
            raise AirflowUnreachableError(f"Airflow did not answer {method} {path}: {error}") from error
        if not response.ok:
            raise AirflowApiError(
                f"Airflow answered {response.status_code} to {method} {path}: {response.text[:500]}"
            )
        return response.json() if response.content else None

    def read_health(self) -> dict[str, str | None]:
        """Return the health of each component, ``healthy`` or another word; empty while the server starts."""
        try:
            health = self._send("GET", "/api/v2/monitor/health")
        except AirflowApiError:
            return {}
        return {component: facts["status"] for component, facts in health.items() if facts}

    def is_worker_api_healthy(self) -> bool:
        """Return True if this server responds to the requests of workers."""
        try:
            return bool(self._send("GET", "/execution/health")["status"] == "healthy")
        except AirflowApiError:
            return False

    def list_dag_ids(self) -> set[str]:
        """Return the ids of all DAGs that have been parsed."""
        return {dag["dag_id"] for dag in self.request("GET", "/dags", parameters={"limit": 100})["dags"]}

    def list_import_errors(self) -> dict[str, str]:
        """Return the stack trace of every DAG file that could not be imported, by file name."""
        errors = self.request("GET", "/importErrors")["import_errors"]
        return {error["filename"]: error["stack_trace"] for error in errors}

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler run this DAG."""
        self.request("PATCH", f"/dags/{dag_id}", body={"is_paused": False})

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run of an unpaused DAG and return the run's id."""
        run = self.request("POST", f"/dags/{dag_id}/dagRuns", body={"logical_date": None, "conf": conf or {}})
        return str(run["dag_run_id"])

    def read_run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run."""
        return str(self.request("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def list_tasks(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        """Return all tasks of a run, mapped ones in the order of their index; ``~`` stands for all."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        found = self.request("GET", path, parameters={"limit": 1000})["task_instances"]
        tasks = [
            TaskInstance(
                dag_id=entry["dag_id"],
                run_id=entry["dag_run_id"],
                task_id=entry["task_id"],
                map_index=entry["map_index"],
                state=entry["state"],
                tries=entry["try_number"],
                seconds=entry["duration"],
                queued_at=entry["queued_when"],
                instance_id=entry["id"],
                triggerer_id=(entry["trigger"] or {}).get("triggerer_id"),
            )
            for entry in found
        ]
        return sorted(tasks, key=lambda task: (task.task_id, task.map_index))

    def mark(self, task: TaskInstance, state: str) -> None:
        """Mark a task as ``success``, ``failed`` or ``skipped``, as a user does in the Airflow UI."""
        path = f"/dags/{task.dag_id}/dagRuns/{task.run_id}/taskInstances/{task.task_id}"
        self.request("PATCH", path, parameters={"map_index": task.map_index}, body={"new_state": state})

    def mark_run(self, task: TaskInstance, state: str) -> None:
        """Mark the DAG run of a task as ``success`` or ``failed``, as a user does in the Airflow UI."""
        self.request("PATCH", f"/dags/{task.dag_id}/dagRuns/{task.run_id}", body={"state": state})

    def clear(self, task: TaskInstance, *, all_indices: bool = False, keep_task_state: bool = False) -> None:
        """
        Clear a task in any state: it starts over.

        :param all_indices: True to clear a mapped task as a whole, and not only this index.
        :param keep_task_state: True to keep its entries in the task state store. Only for Airflow 3.4 and
            later, which delete them by default.
        """
        is_index = task.map_index >= 0 and not all_indices
        options = {"keep_task_state": True} if keep_task_state else {}
        self._clear(task, [task.task_id, task.map_index] if is_index else task.task_id, **options)

    def clear_with_downstream(self, task: TaskInstance, task_id: str) -> None:
        """Clear another task of a task's run and all tasks downstream, as the Airflow UI can."""
        self._clear(task, task_id, include_downstream=True)

    def _clear(self, of_run: TaskInstance, task_id: Any, **options: Any) -> None:
        body = {
            "dry_run": False,
            "only_failed": False,
            "dag_run_id": of_run.run_id,
            "task_ids": [task_id],
            **options,
        }
        self.request("POST", f"/dags/{of_run.dag_id}/clearTaskInstances", body=body)

    def clear_run(self, task: TaskInstance) -> None:
        """Clear the whole DAG run of a task."""
        body = {"dry_run": False, "only_failed": False}
        self.request("POST", f"/dags/{task.dag_id}/dagRuns/{task.run_id}/clear", body=body)

    def list_questions(self, dag_id: str = "~") -> list[dict[str, Any]]:
        """Return the open forms under Required Actions as Airflow reports them, oldest first."""
        parameters = {"response_received": False, "state": "awaiting_input", "limit": 1000}
        found = self.request("GET", f"/dags/{dag_id}/dagRuns/~/hitlDetails", parameters=parameters)
        return sorted(found["hitl_details"], key=lambda form: str(form["created_at"]))

    def answer(self, form: dict[str, Any], reply: str | None, option: str = "Send") -> None:
        """Answer an open form as the Airflow UI does: with its hidden fields."""
        fields = {name: param["value"] for name, param in form["params"].items()} | {"reply": reply}
        body = {"chosen_options": [option], "params_input": fields}
        self.request("PATCH", build_answer_path(form), body=body)

    def read_xcoms(self, task: TaskInstance, keys: Sequence[str] = ("return_value",)) -> dict[str, Any]:
        """Return the task's XComs under these keys; keys without an XCom are left out."""
        path = f"/dags/{task.dag_id}/dagRuns/{task.run_id}/taskInstances/{task.task_id}/xcomEntries"
        parameters = {"map_index": task.map_index, "limit": 1000}
        pushed = {entry["key"] for entry in self.request("GET", path, parameters=parameters)["xcom_entries"]}
        return {
            key: self.request("GET", f"{path}/{key}", parameters={"map_index": task.map_index})["value"]
            for key in keys
            if key in pushed
        }

    def read_log(self, task: TaskInstance) -> list[str]:
        """Return the messages in the log of the task's last try."""
        path = f"/dags/{task.dag_id}/dagRuns/{task.run_id}/taskInstances/{task.task_id}/logs/{task.tries}"
        parameters = {"map_index": task.map_index, "full_content": True}
        content = self.request("GET", path, parameters=parameters)["content"]
        return [entry if isinstance(entry, str) else describe_log_entry(entry) for entry in content]


def build_answer_path(form: dict[str, Any]) -> str:
    """Return the path for answering an open form, below ``/api/v2``."""
    ti = form["task_instance"]
    path = f"/dags/{ti['dag_id']}/dagRuns/{ti['dag_run_id']}/taskInstances/{ti['task_id']}"
    return f"{path}/{ti['map_index']}/hitlDetails"


def describe_log_entry(entry: dict[str, Any]) -> str:
    """Return one structured log entry as a line, with its exceptions."""
    line = f"{entry.get('level') or '':7} {entry.get('event', '')}".strip()
    details = [f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or []]
    return " | ".join([line, *details])
