"""Telemetry that fails reaches neither the task nor, more than once, the log."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from airflow_agent_tasks.lifecycle.measurements import Count, Time
from airflow_agent_tasks.polling import poll_metrics
from airflow_agent_tasks.polling.poll_metrics import PollMetrics
from airflow_agent_tasks.telemetry import failures, metrics, spans
from airflow_agent_tasks.telemetry.reporter import Reporter


class Sent:
    """Stands for Airflow's ``Stats``: keeps what is sent."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float, dict[str, str]]] = []
        self.has_gauge = threading.Event()

    def incr(self, name: str, value: Any, *, tags: dict[str, str]) -> None:
        self.calls.append((name, value, tags))

    timing = incr

    def gauge(self, name: str, value: Any, *, tags: dict[str, str]) -> None:
        self.incr(name, value, tags=tags)
        self.has_gauge.set()


@pytest.fixture
def sent(mocker: Any) -> Sent:
    return mocker.patch.object(metrics, "_read_stats", return_value=Sent()).return_value  # type: ignore[no-any-return]


def test_failures_are_logged_once_and_swallowed(mocker: Any, caplog: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(failures, "_logged", set())
    monkeypatch.setenv("AIRFLOW__TRACES__OTEL_ON", "True")
    mocker.patch.object(metrics, "_read_stats", side_effect=OSError("no network"))
    mocker.patch.object(spans, "_find_span", side_effect=RuntimeError("no provider"))
    for _ in range(3):
        Reporter("c1", "shinzo").report([Count("submitted"), Time("running_duration", 1.0, 2.0)])
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "Could not send traces of agent tasks",
        "Could not send metrics of agent tasks",
    ]


def test_a_tag_has_only_characters_that_airflow_accepts(sent: Sent) -> None:
    Reporter("a conn,id=1", "shinzo", {"dag_id": "d" * 300}).report([Count("stops")])
    assert sent.calls == [
        ("agent_tasks.stops", 1, {"service": "shinzo", "conn_id": "a_conn_id_1", "dag_id": "d" * 200})
    ]


@pytest.mark.parametrize("is_on", [True, False])
def test_the_second_name_follows_airflows_setting(sent: Sent, monkeypatch: Any, is_on: bool) -> None:
    monkeypatch.setenv("AIRFLOW__METRICS__LEGACY_NAMES_ON", str(is_on))
    Reporter("c1", "shinzo").report([Count("finished", tag=("state", "completed"))])
    names = [name for name, _, _ in sent.calls]
    assert names == ["agent_tasks.finished", "agent_tasks.finished.completed"][: 1 + is_on]


def test_a_poller_adds_up_and_sends_at_intervals_and_at_its_end(sent: Sent, monkeypatch: Any) -> None:
    monkeypatch.setattr(poll_metrics, "SEND_INTERVAL", 0.01)
    monkeypatch.setenv("AIRFLOW__METRICS__LEGACY_NAMES_ON", "False")

    def list_values(name: str) -> list[float]:
        return [value for one, value, _ in list(sent.calls) if one == f"agent_tasks.{name}"]

    async def run() -> None:
        counts = PollMetrics("c1")
        counts.start()
        counts.waiting, counts.polls, counts.poll_errors = 3, 1_000, 7
        await asyncio.to_thread(sent.has_gauge.wait, 30)
        counts.waiting, counts.polls, counts.opened_circuits = 0, 5, 1
        counts.close()  # its thread ends before asyncio.run returns

    asyncio.run(run())
    assert sum(list_values("polls")) == 1_005
    assert list(filter(None, list_values("poll_errors"))) == [7]
    assert list(filter(None, list_values("circuit_opened"))) == [1]
    # Before the first circuit has opened too, or Prometheus would not see that as an increase.
    assert list_values("circuit_opened")[0] == 0
    assert (list_values("waiting")[0], list_values("waiting")[-1]) == (3, 0)
