"""A real triggerer that finds deferred tasks, and what the benchmarks see of it from outside."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from lab.benchmarks.contenders import CONN_ID, CONTENDERS
from lab.benchmarks.database import run_database
from lab.benchmarks.mock_service_process import MockServiceControl, run_mock_service
from lab.benchmarks.tls_certificate import build_trust_variables, write_certificate
from lab.cluster.airflow_cluster import AirflowCluster
from lab.paths import ROOT
from lab.peer_providers import PEERS_FOLDER

TASKS_PER_RUN = 1000
DAGS = f"""
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

with DAG("waiting", schedule=None, max_active_runs=100):
    EmptyOperator.partial(task_id="agent").expand(doc=["waits"] * {TASKS_PER_RUN})
with DAG("probe", schedule=None):
    EmptyOperator(task_id="probe")
"""


class Metrics:
    """Counts how often Airflow reports a blocked event loop, over StatsD."""

    def __init__(self) -> None:
        self.blocked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            self.blocked += self._socket.recv(65536).count(b"triggers.blocked_main_thread")


class DeferredTask(NamedTuple):
    """
    A deferred task.

    :param task_id: Airflow's id of its task instance.
    :param url: The URL of its callback; empty if it has none.
    """

    task_id: UUID
    url: str


class WaitingTriggerer:
    """
    A triggerer, and the service that its tasks wait for.

    :param name: The contender.
    :param home: A folder for its files.
    :param cluster: Its Airflow.
    :param service: The service.
    :param metrics: Airflow's own count of blocked event loops.
    """

    def __init__(
        self, name: str, home: Path, cluster: AirflowCluster, service: MockServiceControl, metrics: Metrics
    ) -> None:
        self.cluster = cluster
        self.service = service
        self.metrics = metrics
        self.probe_path = home / "probe"
        self._tasks_path = home / "tasks"
        self._name = name

    def defer(self, tasks: int, interval: float, *, has_probe: bool = False) -> None:
        """
        Defer the tasks while no triggerer runs.

        :param tasks: How many, a multiple of ``TASKS_PER_RUN``.
        :param interval: Seconds between two polls of a task.
        :param has_probe: True to defer a ``ProbeTrigger`` too; default False.
        """
        cluster = self.cluster
        cluster.wait_for_dags(["waiting", "probe"])
        for component in ("scheduler", "triggerer"):
            cluster.stop_program(component)
        if has_probe:
            cluster.api.trigger("probe")
        for _ in range(tasks // TASKS_PER_RUN):
            cluster.api.trigger("waiting")
        command = [sys.executable, "-m", "lab.benchmarks.defer_tasks", self._name, str(interval)]
        deferring = cluster.start_program("defer", [*command, str(self.probe_path), str(self._tasks_path)])
        if deferring.wait(timeout=300):
            raise SystemExit(f"the tasks could not be deferred:\n{deferring.describe_log_end()}")
        cluster.stop_program("defer")

    def list_tasks(self) -> list[DeferredTask]:
        """Return the deferred tasks in the order of their numbers."""
        lines = [line.partition(" ") for line in self._tasks_path.read_text().splitlines()]
        return [DeferredTask(UUID(task_id), url) for task_id, _, url in lines]

    def start(self) -> None:
        """Start the triggerer."""
        self.cluster.start_component("triggerer")


@contextmanager
def run_airflow(
    name: str, environment: Mapping[str, str], *, database: str = "sqlite"
) -> Iterator[WaitingTriggerer]:
    """
    Run an Airflow whose tasks can wait as those of a contender, and the service.

    :param name: The contender.
    :param environment: Further environment variables for Airflow.
    :param database: The name of its database; default SQLite.
    """
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        certificate, dags = home / "service.pem", home / "dags"
        write_certificate(certificate)
        os.environ.update(build_trust_variables(certificate))
        url, metrics = stack.enter_context(run_mock_service(home, certificate)), Metrics()
        dags.mkdir()
        (dags / "waiting.py").write_text(DAGS)
        variables = {
            "PYTHONPATH": f"{ROOT}:{PEERS_FOLDER}",  # which has StatsD's client
            f"AIRFLOW_CONN_{CONN_ID.upper()}": json.dumps(CONTENDERS[name].connect(url)),
            "BENCH_SCHEME": "https",
            **build_trust_variables(certificate),
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_PORT": str(metrics.port),
            **environment,
        }
        database_url = stack.enter_context(run_database(database))
        airflow = AirflowCluster(
            home / "airflow", dags_folder=dags, environment=variables, database_url=database_url
        )
        cluster = stack.enter_context(airflow)
        yield WaitingTriggerer(name, home, cluster, MockServiceControl(url), metrics)
