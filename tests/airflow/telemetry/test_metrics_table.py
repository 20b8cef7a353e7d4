"""Each metric of the table in the reference arrives at a StatsD listener and at an OTLP receiver."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.paths import ROOT
from tests.airflow.conftest import Person
from tests.telemetry_receivers import Receiver, listen_for_otlp, listen_for_statsd

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"
#: Everything that a metric counts happens to these tasks.
DAG = """
import sys
from airflow.sdk import DAG
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

ALL = (
    '#sandbox {"queued_seconds": 1, "ask": ["Which?"], '
    '"usage": {"steps": 3, "seconds": 2, "cost": 1.5, "tokens": 9}}'
)
LONG = '#sandbox {"steps": 100, "step_seconds": 10}'
QUICK = {"deferrable": True, "poll_interval": 0.2}

with DAG("DAG_ID", schedule=None) as dag:
    # dag.test() keeps no arguments of a deferral, and so not that there was a question.
    asks = ShinzoTaskOperator(task_id="asks", message=ALL, poll_interval=0.2)
    attaches = [
        LightconeTaskOperator(task_id=name, instruction="Work.", idempotency_key="DAG_ID", **QUICK)
        for name in ("first", "second")
    ]
    is_stopped = LightconeTaskOperator(task_id="is_stopped", instruction=LONG, timeout=2, **QUICK)
    fails = LightconeTaskOperator(task_id="fails", instruction='#sandbox {"exit_code": 3}', **QUICK)
    asks >> attaches[0] >> attaches[1] >> [is_stopped, fails]

if __name__ == "__main__":
    dag.test()
"""


def read_table() -> dict[str, str]:
    """Return the metrics of the page's first table, with their types."""
    rows = re.findall(r"^\| `(agent_tasks\.[\w.]+)` \| (counter|gauge|timer) \|", PAGE.read_text(), re.M)
    assert len(rows) > 10
    return dict(rows)


def run_dag(receiver_settings: dict[str, str], airflow_home: Path, address: str, sandbox: Any) -> None:
    """Run the DAG in a process of its own, with a person who answers, and a service that fails at times."""
    number = os.urandom(4).hex()
    file = airflow_home / "dags" / f"telemetry_{number}.py"
    file.write_text(DAG.replace("DAG_ID", f"telemetry_{number}"))
    # Twice: the worker's own check comes first.
    unavailable = {"method": "GET", "path": "^/agent/tasks/", "status": 429, "times": 2}
    sandbox.faults([{**unavailable, "headers": {"Retry-After": "1"}}])
    environment = {**os.environ, **receiver_settings, "PYTHONPATH": str(ROOT)}
    try:
        with Person(address, f"telemetry_{number}", ["That one."]):
            ended = subprocess.run(
                [sys.executable, str(file)],
                **{"capture_output": True, "text": True, "timeout": 180, "env": environment, "check": False},
            )
    finally:
        file.unlink()
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "Could not send" not in ended.stdout + ended.stderr


def check_all(receiver: Receiver) -> None:
    table = read_table()
    wanted = {(f"airflow.{name}", kind) for name, kind in table.items()}
    receiver.wait_until(lambda it: wanted <= {(one.name, one.kind) for one in it.metrics}, 20)
    sent = {one.name for one in receiver.metrics if one.name.startswith("airflow.agent_tasks.")}
    assert {name for name in sent if not is_second_name(name)} == {f"airflow.{name}" for name in table}
    for one in receiver.metrics:
        if one.name in {name for name, _ in wanted}:
            assert {"service", "conn_id"} <= one.tags.keys(), one


def is_second_name(name: str) -> bool:
    return bool(re.match(r"airflow\.agent_tasks\.(finished|failed|waiting)\.", name))


@pytest.fixture
def run(airflow_home: Path, api_server: str, agent_task_sandbox: Any) -> Callable[[dict[str, str]], None]:
    return lambda settings: run_dag(settings, airflow_home, api_server, agent_task_sandbox)


def test_each_metric_arrives_at_a_statsd_listener(run: Callable[[dict[str, str]], None]) -> None:
    with listen_for_statsd() as receiver:
        run(
            {
                "AIRFLOW__METRICS__STATSD_ON": "True",
                "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
                "AIRFLOW__METRICS__STATSD_PORT": str(receiver.port),
                "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
            }
        )
        check_all(receiver)
    counts = {
        name: sum(one.value for one in receiver.find(name)) for name in ("submitted", "attached", "stops")
    }
    assert counts == {"submitted": 4, "attached": 1, "stops": 1}
    states = sorted(one.tags["state"] for one in receiver.find("finished"))
    assert states == ["completed", "completed", "completed", "failed", "paused"]
    assert sorted(one.tags["kind"] for one in receiver.find("failed")) == ["failed", "timeout"]
    assert [one.value for one in receiver.find("questions")] == [1]
    assert [one.value for one in receiver.find("circuit_opened") if one.value] == [1]
    assert [one.value for one in receiver.find("usage.cost")] == [1.5]
    assert len(receiver.find("finished.failed")) == 1


def test_each_metric_arrives_at_an_otlp_receiver(run: Callable[[dict[str, str]], None]) -> None:
    with listen_for_otlp() as receiver:
        run(
            {
                "AIRFLOW__METRICS__OTEL_ON": "True",
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.port}",
            }
        )
        check_all(receiver)
