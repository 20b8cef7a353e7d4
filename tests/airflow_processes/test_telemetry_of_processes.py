"""Metrics and traces of a real worker, triggerer and API server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lab.cluster.processes import wait_until
from tests.telemetry_receivers import Receiver, listen_for_otlp, listen_for_statsd, read_attributes

DAGS = {
    "watched.py": """
from airflow.sdk import DAG
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

with DAG("watched", schedule=None):
    quick = {"deferrable": True, "poll_interval": 0.5}
    script = '#sandbox {"steps": 4, "queued_seconds": 1, "ask": ["Which?"], "usage": {"cost": 0.25}}'
    ShinzoTaskOperator(task_id="asks", message=script, **quick)
    ShinzoTaskOperator(task_id="parked", message='#sandbox {"ask": ["Where?"]}', **quick)
    ShinzoTaskOperator(task_id="deferred", message='#sandbox {"steps": 1000}', **quick)
"""
}


@pytest.fixture(scope="module", autouse=True)
def receivers(request: Any) -> Iterator[tuple[Receiver, Receiver]]:
    """The StatsD listener and the OTLP receiver of the cluster, which starts after them."""
    with listen_for_statsd() as statsd, listen_for_otlp() as otlp:
        request.module.SETTINGS = {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(statsd.port),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
            "AIRFLOW__TRACES__OTEL_ON": "True",
            "OTEL_TRACES_EXPORTER": "otlp_proto_http",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{otlp.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "500",
        }
        yield statsd, otlp


def test_each_process_sends_its_metrics_and_one_trace_shows_the_agents_time(
    cluster: Any, receivers: tuple[Receiver, Receiver]
) -> None:
    statsd, otlp = receivers
    run_id = cluster.api.trigger("watched")

    def are_ready() -> bool:
        states = {task.task_id: task.state for task in cluster.api.list_tasks("watched", run_id)}
        return states == {"asks": "awaiting_input", "parked": "awaiting_input", "deferred": "deferred"}

    assert wait_until(are_ready, timeout=120)
    statsd.wait_until(lambda it: [one for one in it.find("waiting") if one.value >= 1])
    tasks = {task.task_id: task for task in cluster.api.list_tasks("watched", run_id)}
    for name in ("parked", "deferred"):
        cluster.api.mark(tasks[name], "failed")
    (form,) = [form for form in cluster.api.list_questions("watched") if is_of_asks(form)]
    cluster.api.answer(form, "That one.")
    assert cluster.wait_for_run("watched", run_id, timeout=120) == "failed"

    # Nothing but the API server was there to stop the parked one.
    statsd.wait_until(lambda it: it.find("stops", task_id="parked"))
    statsd.wait_until(lambda it: it.find("finished", task_id="asks", state="completed"))
    assert len(statsd.find("submitted")) == 3
    assert sum(one.value for one in statsd.find("polls", service="shinzo")) > 3
    (waited,) = statsd.find("awaiting_input_duration", task_id="asks")
    assert 1_000 < waited.value < 120_000
    otlp.wait_until(lambda it: "task_run.asks" in {one.name for one in it.spans})
    check_trace(otlp.spans)


def is_of_asks(form: Any) -> bool:
    return bool(form["task_instance"]["task_id"] == "asks")


def check_trace(spans: list[Any]) -> None:
    """Check that all spans of the agent task are in its task's trace, with those of worker and triggerer."""
    (task,) = [one for one in spans if one.name == "task_run.asks"]
    children = sorted((one for one in spans if one.parent_span_id == task.span_id), key=by_start)
    names = [one.name for one in children if one.name.startswith("agent_task")]
    assert names == ["agent_task.queued", "agent_task.running", "agent_task.awaiting_input"]
    queued, running, asked = [one for one in children if one.name in names]
    assert queued.end_time_unix_nano == running.start_time_unix_nano
    assert running.start_time_unix_nano < asked.start_time_unix_nano
    assert asked.end_time_unix_nano < running.end_time_unix_nano
    workers = [one for one in children if one.name == "worker.asks"]
    triggers = [one for one in children if one.name == "trigger.asks"]
    assert len({read_attributes(one)["agent_task.id"] for one in children}) == 1
    assert [event.name for event in workers[0].events] == ["agent_task.submitted"]
    assert "agent_task.questions" in [event.name for one in workers for event in one.events]
    assert read_attributes(triggers[0])["agent_task.verdict"] == "reached"
    last = read_attributes(workers[-1])
    assert (last["agent_task.state"], last["agent_task.usage.cost"]) == ("completed", 0.25)
    assert {one.trace_id for one in children} == {task.trace_id}


def by_start(span: Any) -> int:
    return int(span.start_time_unix_nano)
