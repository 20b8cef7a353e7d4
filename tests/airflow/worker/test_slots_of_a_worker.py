"""How a worker takes a slot of a connection, and what it does without one."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from airflow.models.dagrun import DagRun
from airflow.sdk.exceptions import TaskDeferred
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType
from pytest_mock import MockerFixture
from sqlalchemy import update

from airflow_agent_tasks.airflow_compat import supervisor
from airflow_agent_tasks.errors import AgentTaskCancelledError, AgentTaskError
from airflow_agent_tasks.hooks.find_hook import find_hook
from airflow_agent_tasks.lifecycle.commands import Sleep
from airflow_agent_tasks.lifecycle.slots import DeferForSlot, TakeSlot
from airflow_agent_tasks.triggers.slot import AgentTaskSlotTrigger
from airflow_agent_tasks.worker.driver import Callbacks, Driver
from airflow_agent_tasks.worker.slots import take_slot
from lab.cluster.processes import find_free_ports
from tests.airflow.waiting_rows import put
from tests.airflow.worker.test_killing import task_instance
from tests.task_settings import build_settings

CONN_ID = "shinzo_limited"
LOG = logging.getLogger("worker")


def limit(monkeypatch: pytest.MonkeyPatch, sandbox: Any, number: int | None) -> None:
    extra = {"agent_id": "agt_sandbox", "max_concurrent_tasks": number}
    connection = {"conn_type": "shinzo", "host": sandbox.url, "password": "sk_sandbox", "extra": extra}
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(connection))


@pytest.fixture
def limited(airflow_home: Any, agent_task_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, agent_task_sandbox, 1)


def build_driver(ti: Any) -> Driver:
    def defer(**arguments: Any) -> None:
        raise TaskDeferred(**arguments)

    callbacks = Callbacks(lambda: find_hook(CONN_ID), defer, None, (), ())
    context: Any = {"ti": ti, "task_state_store": SimpleNamespace(get=lambda key: None)}
    return Driver(build_settings({}, conn_id=CONN_ID, pushes_xcoms=False), callbacks, context, LOG)


def start_tasks(run_dag: Any) -> list[Any]:
    run = run_dag("@task\ndef agent(number):\n    return number\n\nagent.expand(number=[1, 2])")
    rows = [run._task_instance("agent", index) for index in range(2)]
    for row in rows:
        put(row, "running")
    with create_session() as session:
        names = {"dag_id": rows[0].dag_id, "run_id": rows[0].run_id}
        by = {"triggered_by": DagRunTriggeredByType.REST_API, "state": "running"}
        session.execute(update(DagRun).filter_by(**names).values(**by))
    return rows


def test_the_worker_takes_a_slot(run_dag: Any, api_server: str, limited: None) -> None:
    rows = start_tasks(run_dag)
    drivers = [build_driver(task_instance("running")) for _ in rows]
    for driver, row in zip(drivers, rows, strict=True):
        driver._ti.id = row.id
    assert [driver.perform(iter(TakeSlot())) for driver in drivers] == [True, False]
    put(rows[1], "failed")
    with pytest.raises(AgentTaskCancelledError, match="no longer running"):
        drivers[1].perform(iter(TakeSlot()))


def test_a_connection_without_a_limit_asks_nobody(
    airflow_home: Any, agent_task_sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, agent_task_sandbox, None)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://nobody.invalid")
    assert take_slot(find_hook(CONN_ID), task_instance("running"), LOG) is True


def test_nothing_is_started_where_nobody_counts(limited: None, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = find_free_ports(1)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(AgentTaskError) as caught:
        take_slot(find_hook(CONN_ID), SimpleNamespace(id=uuid4()), LOG)
    assert not caught.value.is_final
    message = str(caught.value)
    assert message.startswith(
        f"The agent task was not started: connection {CONN_ID!r} has max_concurrent_tasks"
    )
    assert "how-to/limit-concurrency" in message
    assert f"127.0.0.1:{port}" in message


def test_a_deferred_task_waits_with_the_trigger_for_slots(limited: None) -> None:
    with pytest.raises(TaskDeferred) as caught:
        build_driver(task_instance("running")).perform(iter(DeferForSlot()))
    assert isinstance(caught.value.trigger, AgentTaskSlotTrigger)
    assert (caught.value.method_name, caught.value.timeout) == ("take_agent_task_slot", None)


def test_a_worker_that_is_killed_while_it_waits_starts_nothing(limited: None) -> None:
    driver = build_driver(task_instance("failed"))
    driver.on_kill()
    with pytest.raises(
        AgentTaskCancelledError, match="No agent task was started, because this task was killed"
    ):
        driver.perform(iter(Sleep(60.0)))


def test_dag_test_runs_without_the_limit(
    run_dag: Any, limited: None, monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture, caplog: Any
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://nobody.invalid")
    seen = mocker.spy(supervisor, "is_in_process")
    source = f"ShinzoTaskOperator(task_id='agent', conn_id={CONN_ID!r}, message='Look.')"
    assert run_dag(source).state == "success"
    assert seen.spy_return is True
