"""
Measures how a real triggerer starts a thousand triggers of one connection at once, as after a restart.

Prints as JSON how often the connection was looked up, when the last trigger made its first poll, and how
often the triggerer found its event loop blocked (its metric ``triggers.blocked_main_thread``; at log
level INFO it also logs "Triggerer's async thread was blocked").
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from lab.benchmarks.contenders import CONN_ID, CONTENDERS
from lab.benchmarks.mock_service_process import MockServiceControl, run_mock_service
from lab.benchmarks.tls_certificate import build_trust_variables, write_certificate
from lab.cluster.airflow_cluster import AirflowCluster
from lab.cluster.processes import wait_until
from lab.command_line import build_parser, run_command
from lab.paths import ROOT
from lab.peer_providers import PEERS_FOLDER

COUNT = 1000
INTERVAL = 10.0
#: Seconds within which all triggers must make their first poll; the sleeping contender never polls.
POLL_TIMEOUT = 90.0
SLEEPER_TIMEOUT = 20.0

DAG = f"""
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

with DAG("waiting", schedule=None):
    EmptyOperator.partial(task_id="agent").expand(doc=["waits"] * {COUNT})
"""

#: Defers the tasks as their workers would have done while no triggerer was running.
DEFER = """
import sys
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.sdk import timezone
from airflow.utils.session import create_session
from lab.benchmarks.contenders import CONTENDERS
from sqlalchemy import select

with create_session() as session:
    for ti in session.scalars(select(TaskInstance).where(TaskInstance.dag_id == "waiting")).all():
        path, kwargs = CONTENDERS[sys.argv[1]].build(ti.map_index, float(sys.argv[2])).serialize()
        trigger = Trigger(classpath=path, kwargs=kwargs)
        session.add(trigger)
        session.flush()
        ti.trigger_id, ti.state, ti.next_method = trigger.id, "deferred", "execute_complete"
        ti.start_date = timezone.utcnow()
"""

#: A secrets backend that Airflow asks first, and that logs each lookup.
BACKEND = f"""
import os
from airflow.secrets import BaseSecretsBackend

class Counting(BaseSecretsBackend):
    def get_conn_value(self, conn_id, team_name=None):
        if conn_id != {CONN_ID!r}:
            return None
        with open(os.environ["LOOKUPS"], "a") as file:
            file.write(conn_id + chr(10))
        return os.environ["BENCH_CONNECTION"]
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


def measure(name: str, log_level: str) -> dict[str, object]:
    """Start the triggers of a contender, and return the counts."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        certificate = home / "service.pem"
        write_certificate(certificate)
        os.environ.update(build_trust_variables(certificate))
        url, metrics = stack.enter_context(run_mock_service(home, certificate)), Metrics()
        dags, modules, lookups = home / "dags", home / "modules", home / "lookups"
        dags.mkdir()
        modules.mkdir()
        lookups.touch()
        (dags / "waiting.py").write_text(DAG)
        (modules / "counting_backend.py").write_text(BACKEND)
        environment = {
            "PYTHONPATH": ":".join(map(str, [modules, ROOT, PEERS_FOLDER])),
            "LOOKUPS": str(lookups),
            "BENCH_CONNECTION": json.dumps(CONTENDERS[name].connect(url)),
            "BENCH_SCHEME": "https",
            **build_trust_variables(certificate),
            "AIRFLOW__SECRETS__BACKEND": "counting_backend.Counting",
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_PORT": str(metrics.port),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": log_level,
        }
        cluster = stack.enter_context(
            AirflowCluster(home / "airflow", dags_folder=dags, environment=environment)
        )
        seen = _watch(cluster, name, MockServiceControl(url), lookups, metrics)
        return {"name": name, "log_level": log_level, **seen}


def _watch(
    cluster: AirflowCluster, name: str, service: MockServiceControl, lookups: Path, metrics: Metrics
) -> dict[str, object]:
    cluster.wait_for_dags(["waiting"])
    for component in ("scheduler", "triggerer"):
        cluster.stop_program(component)
    cluster.api.trigger("waiting")
    deferring = cluster.start_program("defer", [sys.executable, "-c", DEFER, name, str(INTERVAL)])
    if deferring.wait(timeout=120):
        raise SystemExit(f"the tasks could not be deferred:\n{deferring.describe_log_end()}")
    cluster.stop_program("defer")
    before, blocked, began = len(lookups.read_text().split()), metrics.blocked, time.monotonic()
    cluster.start_component("triggerer")
    wait_until(
        lambda: service.read_counts()["polled"] >= COUNT,
        timeout=SLEEPER_TIMEOUT if name == "sleeper" else POLL_TIMEOUT,
        interval=0.5,
    )
    counts = service.read_counts()
    return {
        "polled": int(counts["polled"]),
        "last_polled_after": counts["last_first_polled_at"] - began if counts["polled"] else None,
        "lookups": len(lookups.read_text().split()) - before,
        "blocked": metrics.blocked - blocked,
    }


def main() -> int:
    """Measure, print the counts and return the exit status."""
    parser = build_parser("lab.benchmarks.measure_triggerer_start", __doc__)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("log_level", choices=["INFO", "WARNING"])
    given = parser.parse_args()
    print(json.dumps(measure(given.contender, given.log_level)))
    return 0


if __name__ == "__main__":
    run_command(main)
