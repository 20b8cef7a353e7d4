"""The sensor, through ``dag.test()`` in each of its modes."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRescheduleException
from pytest_mock import MockerFixture

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.hooks.shinzo import ShinzoHook
from airflow_agent_tasks.lifecycle.wait_policy import Decision, Verdict
from airflow_agent_tasks.polling.status_check import StatusChecker
from airflow_agent_tasks.sensors.agent_task import AgentTaskSensor
from tests.airflow.started_tasks import start, then

MODES = pytest.mark.parametrize(
    "mode",
    ["deferrable=True", 'mode="poke"', 'mode="reschedule", poke_interval=0.05'],
    ids=["defer", "poke", "reschedule"],
)


@MODES
@pytest.mark.parametrize("service", ["lightcone", "shinzo"])
def test_a_sensor_waits_for_the_end_and_returns_the_agent_task(run_dag: Any, service: str, mode: str) -> None:
    script = '#sandbox {"steps": 2, "step_seconds": 0.1}'
    run = run_dag(
        start(service, script) + then(service, f"AgentTaskSensor(task_id='sensor', {mode}, TARGET)")
    )
    assert run.state == "success"
    assert run.xcom("sensor")["status"] == "completed"
    assert run.xcom("sensor")["task_id"] == run.xcom("start", "task_id")


@MODES
def test_a_sensor_fails_at_once_when_the_state_cannot_come_any_more(
    run_dag: Any, capfd: Any, mode: str
) -> None:
    script = '#sandbox {"steps": 1, "step_seconds": 0.05, "status": "failed"}'
    run = run_dag(
        start("shinzo", script)
        + then("shinzo", f"AgentTaskSensor(task_id='sensor', retries=2, {mode}, TARGET)")
    )
    assert (run.task_state("sensor"), run.tries("sensor")) == ("failed", 1)
    assert "(status failed) can no longer reach the state completed." in capfd.readouterr().out


@pytest.mark.parametrize("mode", ["deferrable=True", 'mode="poke"'])
def test_soft_fail_skips_a_sensor_whose_state_cannot_come(run_dag: Any, mode: str) -> None:
    script = '#sandbox {"steps": 1, "step_seconds": 0.05, "status": "failed"}'
    run = run_dag(
        start("shinzo", script)
        + then("shinzo", f"AgentTaskSensor(task_id='sensor', soft_fail=True, {mode}, TARGET)")
    )
    assert run.task_state("sensor") == "skipped"


def test_a_sensor_may_wait_for_any_of_several_states(run_dag: Any) -> None:
    run = run_dag(
        start("shinzo", '#sandbox {"steps": 2, "step_seconds": 0.1, "ask": ["Really?"]}')
        + then(
            "shinzo",
            "AgentTaskSensor(task_id='sensor', target_states=['awaiting_input', 'completed'], TARGET)",
        )
    )
    assert run.xcom("sensor")["status"] == "awaiting_input"
    assert run.xcom("sensor")["question"] == "Really?"


def test_a_sensor_on_a_state_that_the_service_does_not_have_is_refused(run_dag: Any, capfd: Any) -> None:
    run = run_dag(
        start("shinzo") + then("shinzo", "AgentTaskSensor(task_id='sensor', target_states='paused', TARGET)")
    )
    assert run.task_state("sensor") == "failed"
    assert "A Shinzo task is never paused; its states are" in capfd.readouterr().out


def test_a_sensor_waits_out_a_service_that_is_down(run_dag: Any, agent_task_sandbox: Any) -> None:
    agent_task_sandbox.faults([{"method": "GET", "path": ".*", "times": 3, "status": 503}])
    script = '#sandbox {"steps": 1, "step_seconds": 0}'
    run = run_dag(
        start("shinzo", script)
        + then("shinzo", "AgentTaskSensor(task_id='sensor', poke_interval=0.05, TARGET)")
    )
    assert run.state == "success"


def test_a_sensor_on_an_unknown_task_fails_with_its_id(run_dag: Any, capfd: Any) -> None:
    run = run_dag(
        "AgentTaskSensor(task_id='sensor', agent_task_id='../x\\ny', agent_id='agt_a', "
        "conn_id='shinzo_default')"
    )
    assert run.task_state("sensor") == "failed"
    assert r"Could not get agent task '../x\ny' of 'agt_a': Shinzo answered 404" in capfd.readouterr().out


def test_a_sensor_gives_up_at_its_own_timeout(run_dag: Any) -> None:
    run = run_dag(start("shinzo") + then("shinzo", "AgentTaskSensor(task_id='sensor', timeout=0.3, TARGET)"))
    assert run.task_state("sensor") == "failed"


def test_a_deferred_sensor_gives_up_at_its_own_timeout(run_dag: Any, capfd: Any) -> None:
    run = run_dag(
        start("shinzo")
        + then("shinzo", "AgentTaskSensor(task_id='sensor', deferrable=True, timeout=0.3, TARGET)")
    )
    assert run.task_state("sensor") == "failed"
    assert "did not reach the state completed within the timeout of 0.3 s" in capfd.readouterr().out


@pytest.mark.parametrize("mode", ["deferrable=True", 'mode="poke"'])
def test_never_fail_skips_a_sensor_on_an_unknown_task(run_dag: Any, mode: str) -> None:
    run = run_dag(
        f"AgentTaskSensor(task_id='sensor', agent_task_id='nope', agent_id='agt_a', never_fail=True, {mode}, "
        "conn_id='shinzo_default')"
    )
    assert run.task_state("sensor") == "skipped"


@pytest.mark.parametrize(
    ("arguments", "waits"),
    [
        ({}, [2.0, 3.0]),
        ({"poke_interval": 7}, [7, 7]),
        # Airflow knows the mode only after its default_args.
        ({"default_args": {"mode": "reschedule"}}, [60]),
    ],
    ids=["growing", "fixed", "reschedule"],
)
def test_a_sensor_waits_as_long_as_the_wait_policy_says_unless_told_otherwise(
    mocker: MockerFixture, arguments: dict[str, Any], waits: list[float]
) -> None:
    decisions = [Decision(Verdict.WAIT, seconds=seconds) for seconds in (2.0, 3.0)]
    reached = Decision(Verdict.REACHED, task=AgentTask("shinzo", "tsk_1", TaskState.COMPLETED))
    mocker.patch.object(StatusChecker, "check", side_effect=[*decisions, reached])
    slept: list[float] = []
    clock = SimpleNamespace(sleep=slept.append, monotonic=time.monotonic)
    mocker.patch("airflow.sdk.bases.sensor.time", clock)
    target = {"task_id": "sensor", "agent_task_id": "tsk_1", "conn_id": "shinzo_default"}
    sensor = AgentTaskSensor(**target, **arguments)
    sensor.hook = ShinzoHook("shinzo_default")
    ti = SimpleNamespace(get_first_reschedule_date=lambda context: None)
    began_at = datetime.now(timezone.utc)
    try:
        sensor.execute({"ti": ti, "task_reschedule_count": 0})
    except AirflowRescheduleException as rescheduled:
        # In whole ten seconds: some pass before Airflow reckons it.
        slept.append((rescheduled.reschedule_date - began_at).total_seconds() // 10 * 10)
    assert slept == waits
