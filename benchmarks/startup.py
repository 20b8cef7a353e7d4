"""
A thousand triggers of one connection start at once inside a real triggerer, as after it was away.

    python startup.py CONTENDER LOG_LEVEL

Prints as JSON how often the connection was looked up, when the last of them had asked for the first time, and
how often the triggerer found its event loop blocked (its metric ``triggers.blocked_main_thread``; at the log
level INFO it writes "Triggerer's async thread was blocked" as well).
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

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER.parent / "demo")]

from airflow_cluster import AirflowCluster  # noqa: E402
from certificate import build_trust, write_certificate  # noqa: E402
from contenders import CONN_ID, CONTENDERS  # noqa: E402
from processes import raise_on_termination, wait_until  # noqa: E402
from serving import PEERS, Service, serve  # noqa: E402

COUNT = 1000
INTERVAL = 10.0
#: Seconds after which those who have asked are counted; the triggers of a sleeper never ask.
PATIENCE = 90.0
SLEEPER_PATIENCE = 20.0

DAG = f"""
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

with DAG("waiting", schedule=None):
    EmptyOperator.partial(task_id="agent").expand(doc=["waits"] * {COUNT})
"""

#: As if the workers had deferred their tasks a while ago, and every triggerer had been away since.
DEFER = """
import sys
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.sdk import timezone
from airflow.utils.session import create_session
from contenders import CONTENDERS
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

#: Asked before all other places for connections: writes down each look-up.
BACKEND = f"""
import os
from airflow.secrets import BaseSecretsBackend

class Counting(BaseSecretsBackend):
    def get_conn_value(self, conn_id, team_name=None):
        if conn_id != {CONN_ID!r}:
            return None
        with open(os.environ["LOOK_UPS"], "a") as file:
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
    """Start the triggers of a contender, and return what was seen."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        certificate = home / "service.pem"
        write_certificate(certificate)
        os.environ.update(build_trust(certificate))
        url, metrics = stack.enter_context(serve(home, certificate)), Metrics()
        dags, modules, look_ups = home / "dags", home / "modules", home / "look-ups"
        dags.mkdir()
        modules.mkdir()
        look_ups.touch()
        (dags / "waiting.py").write_text(DAG)
        (modules / "counting_backend.py").write_text(BACKEND)
        environment = {
            "PYTHONPATH": ":".join(map(str, [FOLDER, modules, FOLDER.parent, PEERS])),
            "LOOK_UPS": str(look_ups),
            "BENCH_CONNECTION": json.dumps(CONTENDERS[name].connect(url)),
            "BENCH_SCHEME": "https",
            **build_trust(certificate),
            "AIRFLOW__SECRETS__BACKEND": "counting_backend.Counting",
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_PORT": str(metrics.port),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": log_level,
        }
        cluster = stack.enter_context(
            AirflowCluster(home / "airflow", dags_folder=dags, environment=environment)
        )
        seen = _watch(cluster, name, Service(url), look_ups, metrics)
        return {"name": name, "log_level": log_level, **seen}


def _watch(
    cluster: AirflowCluster, name: str, service: Service, look_ups: Path, metrics: Metrics
) -> dict[str, object]:
    cluster.wait_for_dags(["waiting"])
    for component in ("scheduler", "triggerer"):
        cluster.stop_program(component)
    cluster.api.trigger("waiting")
    deferring = cluster.start_program("defer", [sys.executable, "-c", DEFER, name, str(INTERVAL)])
    if deferring.wait(timeout=120):
        raise SystemExit(f"the tasks could not be deferred:\n{deferring.describe_log_end()}")
    cluster.stop_program("defer")
    looked_up, blocked, began = len(look_ups.read_text().split()), metrics.blocked, time.monotonic()
    cluster.start_component("triggerer")
    wait_until(
        lambda: service.read_counts()["asked"] >= COUNT,
        timeout=SLEEPER_PATIENCE if name == "sleeper" else PATIENCE,
        interval=0.5,
    )
    counts = service.read_counts()
    return {
        "asked": int(counts["asked"]),
        "last_asked_after": counts["last_first_asked_at"] - began if counts["asked"] else None,
        "look_ups": len(look_ups.read_text().split()) - looked_up,
        "blocked": metrics.blocked - blocked,
    }


if __name__ == "__main__":
    raise_on_termination()
    print(json.dumps(measure(*sys.argv[1:])))
