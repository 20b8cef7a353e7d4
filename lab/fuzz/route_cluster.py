"""The Airflow whose routes are fuzzed, with agent tasks that run, wait, and have ended."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from airflow_agent_tasks.sandbox import DEFAULT_AGENT_ID
from airflow_agent_tasks.sandbox.server import Sandbox
from lab.cluster.airflow_api import TaskInstance
from lab.cluster.airflow_cluster import AirflowCluster
from lab.cluster.cluster_programs import ClusterError
from lab.paths import HOMES

DAG_ID = "fuzzed"
#: What each task tells its agent.
MESSAGES = {
    "parked": '#sandbox {"steps": 1, "ask": ["Red or blue?"]}',
    "running": '#sandbox {"steps": 100, "step_seconds": 60}',
    "deferred": '#sandbox {"steps": 100, "step_seconds": 61}',
    "ended": '#sandbox {"steps": 1}',
}
DAG = f"""
from airflow.sdk import DAG
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

with DAG({DAG_ID!r}, schedule=None):
    for task_id, message in {MESSAGES!r}.items():
        ShinzoTaskOperator(
            task_id=task_id, message=message, callback_mode="webhook", deferrable=task_id != "running"
        )
"""
WANTED = {"parked": "awaiting_input", "running": "running", "deferred": "deferred", "ended": "success"}
SETTINGS = {
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    # The restart of the API server may take longer than a worker otherwise waits for it.
    "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "20",
}
#: Seconds for the tasks to reach these states.
TIMEOUT = 120.0


class FuzzedAirflow(NamedTuple):
    """
    An Airflow whose API server accepts no request without a key.

    :param cluster: Its programs.
    :param user: The token of a user.
    :param tasks: Its tasks, in the order of their ids.
    :param callback_tokens: The tokens of their callbacks, by the ids of the tasks.
    """

    cluster: AirflowCluster
    user: str
    tasks: list[TaskInstance]
    callback_tokens: dict[str, str]


@contextmanager
def run_cluster(database_url: str | None = None) -> Iterator[FuzzedAirflow]:
    """
    Start an Airflow with tasks in all states.

    :param database_url: An empty PostgreSQL database; default a SQLite file.
    :raises ClusterError: if it or one of the tasks does not start.
    """
    home = HOMES / "fuzz"
    dags_folder = home / "dags"
    shutil.rmtree(dags_folder, ignore_errors=True)
    dags_folder.mkdir(parents=True)
    (dags_folder / f"{DAG_ID}.py").write_text(DAG)
    with Sandbox() as sandbox:
        connection = {
            "conn_type": "shinzo",
            "host": sandbox.url,
            "password": sandbox.api_key,
            "extra": {"agent_id": DEFAULT_AGENT_ID},
        }
        environment = {**SETTINGS, "AIRFLOW_CONN_SHINZO_DEFAULT": json.dumps(connection)}
        with AirflowCluster(
            home / "airflow", dags_folder=dags_folder, environment=environment, database_url=database_url
        ) as cluster:
            cluster.wait_for_dags([DAG_ID])
            run_id = cluster.api.trigger(DAG_ID)
            tasks = _wait_for_tasks(cluster, run_id)
            user = cluster.api.request_token()
            cluster.environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] = "False"
            cluster.stop_program("api-server")
            cluster.start_component("api-server")
            _wait_for_api_server(cluster)
            yield FuzzedAirflow(cluster, user, tasks, _read_callback_tokens(sandbox))


def _read_callback_tokens(sandbox: Sandbox) -> dict[str, str]:
    bodies = [request["body"] for request in sandbox.requests() if request["body"]]
    urls = {body["message"]: body["webhook_url"] for body in bodies if "webhook_url" in body}
    return {task_id: urls[message].rpartition("/")[2] for task_id, message in MESSAGES.items()}


def _wait_for_tasks(cluster: AirflowCluster, run_id: str) -> list[TaskInstance]:
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        tasks = cluster.api.list_tasks(DAG_ID, run_id)
        if {task.task_id: task.state for task in tasks} == WANTED:
            return tasks
        cluster.check_programs()
        time.sleep(0.5)
    raise ClusterError(f"the tasks of {DAG_ID} did not reach their states within {TIMEOUT:g} s")


def _wait_for_api_server(cluster: AirflowCluster) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not cluster.api.read_health():
        if time.monotonic() > deadline:
            raise ClusterError(f"the API server did not respond within {TIMEOUT:g} s")
        cluster.check_programs()
        time.sleep(0.5)
