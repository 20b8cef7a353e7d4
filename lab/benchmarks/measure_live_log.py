"""
Measures what the live log costs a real triggerer: its tasks wait, and the step of each changes every few
seconds.

Prints as JSON, without and with steps, for ``SECONDS`` in which all tasks wait: the CPU of the triggerer's
event loop per poll, its lag, how often Airflow found it blocked, the log lines and XCom pushes per second
that reached Airflow, and the CPU of the supervisor, the triggerer's other process, whose one thread takes
them.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

from lab.benchmarks.contenders import CONN_ID, CONTENDERS
from lab.benchmarks.measure_triggerer_start import Metrics
from lab.benchmarks.mock_service_process import MockServiceControl, run_mock_service
from lab.benchmarks.percentile import percentile
from lab.benchmarks.tls_certificate import build_trust_variables, write_certificate
from lab.cluster.airflow_cluster import AirflowCluster
from lab.cluster.processes import wait_until
from lab.command_line import build_parser, run_command
from lab.paths import ROOT
from lab.peer_providers import PEERS_FOLDER

INTERVAL = 10.0
SECONDS = 60.0
#: Seconds for all triggers to start and poll, and then for the peak of the start to pass.
START_TIMEOUT = 1200.0
SETTLING = 30.0
TASKS_PER_RUN = 1000

DAG = f"""
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

with DAG("waiting", schedule=None, max_active_runs=100):
    EmptyOperator.partial(task_id="agent").expand(doc=["waits"] * {TASKS_PER_RUN})
with DAG("probe", schedule=None):
    EmptyOperator(task_id="probe")
"""

#: Defers the tasks as their workers would have done while no triggerer was running.
DEFER = """
import sys
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.sdk import timezone
from airflow.utils.session import create_session
from lab.benchmarks.contenders import CONTENDERS
from lab.benchmarks.probe_trigger import ProbeTrigger
from sqlalchemy import select

build, interval, probe = CONTENDERS["progress"].build, float(sys.argv[1]), ProbeTrigger(sys.argv[2])
with create_session() as session:
    for number, ti in enumerate(session.scalars(select(TaskInstance)).all()):
        path, kwargs = (probe if ti.dag_id == "probe" else build(number, interval)).serialize()
        trigger = Trigger(classpath=path, kwargs=kwargs)
        session.add(trigger)
        session.flush()
        ti.trigger_id, ti.state, ti.next_method = trigger.id, "deferred", "execute_complete"
        ti.start_date = timezone.utcnow()
"""


class Snapshot(NamedTuple):
    """What has been counted up to one moment."""

    at: float
    polls: float
    blocked: int
    lines: int
    supervisor_cpu: float


class Triggerer:
    """
    A real triggerer with many waiting tasks, and what can be seen of it from outside.

    :param cluster: The Airflow.
    :param service: The service that it polls.
    :param metrics: Airflow's own count of blocked loops.
    :param probe_path: The file of the probe in its event loop.
    """

    def __init__(
        self, cluster: AirflowCluster, service: MockServiceControl, metrics: Metrics, probe_path: Path
    ) -> None:
        self._cluster = cluster
        self._service = service
        self._metrics = metrics
        self._probe_path = probe_path

    def start(self, tasks: int) -> None:
        """Defer the tasks, start the triggerer and wait until each task has been polled."""
        cluster = self._cluster
        cluster.wait_for_dags(["waiting", "probe"])
        for component in ("scheduler", "triggerer"):
            cluster.stop_program(component)
        cluster.api.trigger("probe")
        for _ in range(tasks // TASKS_PER_RUN):
            cluster.api.trigger("waiting")
        arguments = [str(INTERVAL), str(self._probe_path)]
        deferring = cluster.start_program("defer", [sys.executable, "-c", DEFER, *arguments])
        if deferring.wait(timeout=300):
            raise SystemExit(f"the tasks could not be deferred:\n{deferring.describe_log_end()}")
        cluster.stop_program("defer")
        cluster.start_component("triggerer")
        if not wait_until(
            lambda: self._service.read_counts()["polled"] >= tasks, timeout=START_TIMEOUT, interval=1.0
        ):
            raise SystemExit(f"not all tasks were polled: {self._service.read_counts()}")
        time.sleep(SETTLING)

    def measure(self, tasks: int) -> dict[str, object]:
        """Watch it for ``SECONDS``, and return the costs."""
        before = self._take_snapshot()
        time.sleep(SECONDS)
        after = self._take_snapshot()
        cpu, lags = self._read_probe(before.at, after.at)
        seconds, polls = after.at - before.at, after.polls - before.polls
        return {
            "cpu_ms": 1000 * cpu / polls,
            "share": polls / (tasks * seconds / INTERVAL),
            "lag_ms": [1000 * percentile(lags, share) for share in (0.5, 0.99, 1.0)],
            "blocked": after.blocked - before.blocked,
            "lines": (after.lines - before.lines) / seconds,
            "pushes": self._count_pushes(seconds) / seconds,
            "supervisor": (after.supervisor_cpu - before.supervisor_cpu) / seconds,
        }

    def _take_snapshot(self) -> Snapshot:
        supervisor = psutil.Process(self._cluster.programs["triggerer"].leader.pid).cpu_times()
        return Snapshot(
            time.monotonic(),
            self._service.read_counts()["polls"],
            self._metrics.blocked,
            sum(path.read_bytes().count(b", step ") for path in self._list_logs()),
            supervisor.user + supervisor.system,
        )

    def _list_logs(self) -> list[Path]:
        return list((self._cluster.home / "logs").rglob("*.trigger.*"))

    def _read_probe(self, since: float, until: float) -> tuple[float, list[float]]:
        """Return the CPU seconds of the event loop's process between two times, and its lags."""
        lines = [json.loads(line) for line in self._probe_path.read_text().splitlines()]
        inside = [line for line in lines if since <= line[0] <= until]
        per_second = (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])
        return per_second * (until - since), [lag for line in inside for lag in line[2]]

    def _count_pushes(self, seconds: float) -> int:
        """Return how many tasks have pushed their progress in the last seconds."""
        with closing(sqlite3.connect(self._cluster.home / "airflow.db")) as database:
            query = "select count(*) from xcom where key = 'progress' and timestamp >= datetime('now', ?)"
            return int(database.execute(query, [f"-{seconds:.0f} seconds"]).fetchone()[0])


def measure(tasks: int, step_seconds: float) -> dict[str, object]:
    """Let a triggerer wait for the tasks, and return the costs while their steps change and before."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        certificate = home / "service.pem"
        write_certificate(certificate)
        os.environ.update(build_trust_variables(certificate))
        url, metrics = stack.enter_context(run_mock_service(home, certificate)), Metrics()
        service = MockServiceControl(url)
        dags = home / "dags"
        dags.mkdir()
        (dags / "waiting.py").write_text(DAG)
        environment = {
            "PYTHONPATH": f"{ROOT}:{PEERS_FOLDER}",  # which has StatsD's client
            f"AIRFLOW_CONN_{CONN_ID.upper()}": json.dumps(CONTENDERS["progress"].connect(url)),
            **build_trust_variables(certificate),
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_PORT": str(metrics.port),
            "AIRFLOW__TRIGGERER__CAPACITY": str(2 * tasks),
            "AIRFLOW__TRIGGERER__MAX_TRIGGER_TO_SELECT_PER_LOOP": "1000",
        }
        cluster = stack.enter_context(
            AirflowCluster(home / "airflow", dags_folder=dags, environment=environment)
        )
        triggerer = Triggerer(cluster, service, metrics, home / "probe")
        triggerer.start(tasks)
        without = triggerer.measure(tasks)
        service.change_steps(step_seconds)
        time.sleep(SETTLING)
        return {"without": without, "with": triggerer.measure(tasks)}


def main() -> int:
    """Measure, print the costs and return the exit status."""
    parser = build_parser("lab.benchmarks.measure_live_log", __doc__)
    parser.add_argument("tasks", type=int, help=f"how many tasks wait, a multiple of {TASKS_PER_RUN:,}")
    parser.add_argument("step_seconds", type=float, help="seconds between two steps of a task")
    given = parser.parse_args()
    print(json.dumps(measure(given.tasks, given.step_seconds)))
    return 0


if __name__ == "__main__":
    run_command(main)
