"""The trigger by itself: what crosses the database, and that its one event holds no more than it must."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.airflow_compat.resume_timing import read_resume_guard
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.hooks.find_hook import find_hook
from airflow_agent_tasks.lifecycle.trigger_event import build_event, read_event
from airflow_agent_tasks.lifecycle.wait_policy import Decision, Verdict
from airflow_agent_tasks.polling import connection_cache
from airflow_agent_tasks.triggers.agent_task import AgentTaskTrigger
from tests.task_settings import CALLBACK_POLL_INTERVAL


def build_trigger(**arguments: Any) -> AgentTaskTrigger:
    defaults = {"conn_id": "lightcone_default", "agent_task_id": "tsk_1", "poll_interval": 0.05}
    return AgentTaskTrigger(**{**defaults, "started_at": time.time(), **arguments})


def run_trigger(trigger: AgentTaskTrigger) -> list[dict[str, Any]]:
    async def collect() -> list[dict[str, Any]]:
        return [event.payload async for event in trigger.run()]

    return asyncio.run(collect())


def test_a_trigger_is_recreated_from_what_it_serializes() -> None:
    trigger = build_trigger(
        **{"agent_id": "agt_1", "poll_interval": 3, "not_before": 4e9, "deadline": 5e9, "max_outage": 7},
        **{"target_states": ["failed", "completed"], "notes_progress": "running", "on_kill_policy": "stop"},
        submitted_at=3e9,
    )
    path, arguments = trigger.serialize()
    assert path == "airflow_agent_tasks.triggers.agent_task.AgentTaskTrigger"
    assert AgentTaskTrigger(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)


def test_a_triggerer_with_version_0_1_understands_every_argument() -> None:
    # While components are upgraded one after the other, and on the way back.
    known = {
        *("conn_id", "agent_task_id", "agent_id", "started_at", "target_states", "poll_interval"),
        *("not_before", "deadline", "max_outage", "notes_progress", "on_kill_policy"),
    }
    _, arguments = build_trigger(notes_progress="running", on_kill_policy="stop", deadline=5e9).serialize()
    assert set(arguments) <= known
    assert arguments["notes_progress"]  # which it takes for True


def test_only_a_trigger_after_a_reply_has_an_argument_that_earlier_versions_do_not_know(
    run_dag: Any, mocker: Any
) -> None:
    built = mocker.spy(AgentTaskTrigger, "serialize")
    script = '#sandbox {"steps": 4, "step_seconds": 1, "ask": ["Really?"]}'
    run = run_dag(
        f"ShinzoTaskOperator(task_id='agent', message={script!r}, deferrable=True, poll_interval=0.1, "
        "reply=lambda question: 'Yes.')"
    )
    assert run.state == "success"
    before, after = (found[1] for found in built.spy_return_list)
    assert "submitted_at" not in before
    assert before["started_at"] == after["submitted_at"] < after["started_at"]


@pytest.mark.parametrize("is_called_back", [False, True])
def test_only_a_trigger_that_is_called_back_stores_that(is_called_back: bool) -> None:
    _, arguments = build_trigger(is_called_back=is_called_back).serialize()
    assert arguments.get("is_called_back", ...) is (True if is_called_back else ...)
    assert AgentTaskTrigger(**json.loads(json.dumps(arguments))).is_called_back is is_called_back


@pytest.mark.parametrize("age", [0.0, 1e6])
def test_a_trigger_that_is_called_back_checks_every_five_minutes_or_a_little_later(
    age: float, mocker: Any
) -> None:
    now = time.time()
    trigger = build_trigger(
        started_at=now - age, poll_interval=None, is_called_back=True, not_before=now + CALLBACK_POLL_INTERVAL
    )
    trigger.task_instance = SimpleNamespace(task_id="agent")
    drawn = mocker.patch("random.random", side_effect=[0.0, 0.0, 1.0, 1.0])
    for longest in (300.0, 330.0):
        wait = trigger.build_wait()
        assert wait.begin(now=now).seconds == pytest.approx(longest)
        assert trigger._draw_first_wait(wait, now=now) == pytest.approx(longest)
    assert drawn.call_count == 4
    # Nothing wakes a task of dag.test(), which has no task instance.
    trigger.task_instance = None
    assert trigger.build_wait().begin(now=now).seconds <= 30.0


def test_a_trigger_of_dag_test_checks_soon_although_it_is_called_back(
    agent_task_sandbox: Any, airflow_home: Any
) -> None:
    task = find_hook("lightcone_default").start_task(instruction='#sandbox {"steps": 1, "step_seconds": 0}')
    not_before = time.time() + CALLBACK_POLL_INTERVAL
    trigger = build_trigger(agent_task_id=task.task_id, is_called_back=True, not_before=not_before)
    (event,) = run_trigger(trigger)
    assert event["status"] == "completed"
    assert time.time() < not_before


@pytest.mark.parametrize(
    ("arguments", "end"),
    [
        ({}, r" \(1 min 20 s since the start\)"),
        ({"submitted_at": 1.0}, r" \(\d{6} h \d+ min since the start\)"),
        # A sensor's trigger does not know when the agent task was submitted.
        ({"target_states": ["completed"]}, ""),
    ],
    ids=["operator", "after a reply", "sensor"],
)
def test_the_log_tells_the_time_since_the_submission(
    agent_task_sandbox: Any, airflow_home: Any, capfd: Any, arguments: dict[str, Any], end: str
) -> None:
    task = find_hook("shinzo_default").start_task(message='#sandbox {"steps": 3, "step_seconds": 0.4}')
    trigger = build_trigger(
        conn_id="shinzo_default",
        **{"agent_task_id": task.task_id, "agent_id": task.agent_id},
        **{"started_at": time.time() - 80, **arguments},
    )
    run_trigger(trigger)
    assert re.search(rf"Running, step 0 of 3: Step 1 of 3{end}\s*(\[|$)", capfd.readouterr().out, re.M)


@pytest.mark.parametrize("age", [60.0, 3600.0, 1e6])
def test_the_interval_is_short_again_after_a_reply(age: float) -> None:
    now = time.time()
    waits = [
        build_trigger(started_at=since, poll_interval=None).build_wait().begin(now=now).seconds
        for since in (now, now - age)
    ]
    assert waits[0] <= 2.0 < waits[1]


def test_a_task_that_waits_costs_airflows_database_a_quarter_of_a_kilobyte() -> None:
    trigger = build_trigger(
        agent_task_id="tsk_0123456789abcdef",
        poll_interval=None,
        not_before=time.time() + 2,
        on_kill_policy="stop",
    )
    path, arguments = trigger.serialize()
    assert len(path) + len(json.dumps(arguments)) < 250
    task = AgentTask("lightcone", "tsk_0123456789abcdef", TaskState.COMPLETED, exit_code=0)
    assert len(json.dumps(build_event(trigger.started, Decision(Verdict.REACHED, task=task)))) < 250


def test_arguments_and_event_hold_neither_the_key_nor_the_result(
    agent_task_sandbox: Any, airflow_home: Any
) -> None:
    script = '#sandbox {"steps": 1, "step_seconds": 0, "result": {"secret": "plans"}}'
    task = find_hook("shinzo_default").start_task(message=script)
    trigger = build_trigger(conn_id="shinzo_default", agent_task_id=task.task_id, agent_id=task.agent_id)
    (event,) = run_trigger(trigger)
    assert set(event) == {
        "verdict",
        "agent_task_id",
        "agent_id",
        "started_at",
        "status",
        "exit_code",
        "error",
        "is_final",
    }
    assert (event["verdict"], event["status"]) == ("reached", "completed")
    for text in (json.dumps(event), repr(trigger)):
        assert "plans" not in text
        assert agent_task_sandbox.api_key not in text


@pytest.mark.parametrize("is_scheduled", [False, True])
@pytest.mark.parametrize("drawn", [0.0, 0.01, 1.0])
def test_a_restarted_trigger_checks_first_at_a_random_time_within_the_first_interval(
    agent_task_sandbox: Any,
    airflow_home: Any,
    mocker: Any,
    monkeypatch: Any,
    drawn: float,
    is_scheduled: bool,
) -> None:
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "4")
    task = find_hook("lightcone_default").start_task(instruction='#sandbox {"steps": 1, "step_seconds": 0}')
    mocker.patch.object(random, "random", return_value=drawn)
    slept: list[float] = []
    sleep, ours = asyncio.sleep, threading.current_thread()

    async def record(seconds: float) -> None:
        # The sandbox's server sleeps too, in a thread of its own.
        is_ours = threading.current_thread() is ours
        if is_ours:
            slept.append(seconds)
        await sleep(0 if is_ours else seconds)

    mocker.patch.object(asyncio, "sleep", record)
    trigger = build_trigger(agent_task_id=task.task_id, poll_interval=300.0, not_before=time.time() - 1)
    trigger.task_instance = SimpleNamespace(task_id="agent") if is_scheduled else None
    run_trigger(trigger)
    assert slept[0] == (read_resume_guard() if is_scheduled else 0) + 300 * drawn


@pytest.mark.parametrize("deadline", [None, 0.1])
def test_the_first_check_is_not_before_the_time_that_the_worker_set(
    agent_task_sandbox: Any, airflow_home: Any, deadline: float | None
) -> None:
    task = find_hook("lightcone_default").start_task(instruction='#sandbox {"steps": 1, "step_seconds": 0}')
    begun, wait = time.time(), 0.4 if deadline is None else 30.0
    trigger = build_trigger(
        agent_task_id=task.task_id, not_before=begun + wait, deadline=deadline and begun + deadline
    )
    run_trigger(trigger)
    checks = [request for request in agent_task_sandbox.requests() if request["method"] == "GET"]
    assert len(checks) == 1
    assert (checks[0]["time"] - begun >= wait) is (deadline is None)


def test_a_wrong_key_ends_the_wait_after_one_request(
    agent_task_sandbox: Any, airflow_home: Any, monkeypatch: Any
) -> None:
    connection = {"conn_type": "lightcone", "host": agent_task_sandbox.url, "password": "sk_wrong"}
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTCONE_DEFAULT", json.dumps(connection))
    (event,) = run_trigger(build_trigger())
    assert (event["verdict"], event["is_final"]) == ("error", True)
    assert "answered 401" in event["error"]
    assert [request["status"] for request in agent_task_sandbox.requests()] == [401]


def test_a_connection_of_another_type_ends_the_wait_with_an_explanation(
    airflow_home: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", '{"conn_type": "http"}')
    (event,) = run_trigger(build_trigger(conn_id="other"))
    assert (event["verdict"], event["is_final"]) == ("error", True)
    assert event["error"].startswith("The connection 'other' has the type 'http'")


def test_a_connection_that_cannot_be_read_for_a_while_is_waited_out(
    agent_task_sandbox: Any, airflow_home: Any, monkeypatch: Any, mocker: Any
) -> None:
    mocker.patch.object(connection_cache, "FAILURE_TTL", 0.1)
    task = find_hook("lightcone_default").start_task(instruction='#sandbox {"steps": 1, "step_seconds": 0}')
    connection = os.environ["AIRFLOW_CONN_LIGHTCONE_DEFAULT"]
    monkeypatch.delenv("AIRFLOW_CONN_LIGHTCONE_DEFAULT")

    async def bring_it_back() -> list[dict[str, Any]]:
        loop = asyncio.get_running_loop()
        loop.call_later(0.5, lambda: monkeypatch.setenv("AIRFLOW_CONN_LIGHTCONE_DEFAULT", connection))
        return [event.payload async for event in build_trigger(agent_task_id=task.task_id).run()]

    (event,) = asyncio.run(bring_it_back())
    assert (event["verdict"], event["status"]) == ("reached", "completed")


def test_the_deadline_ends_the_wait(agent_task_sandbox: Any, airflow_home: Any) -> None:
    task = find_hook("lightcone_default").start_task(instruction='#sandbox {"steps": 99, "step_seconds": 9}')
    (event,) = run_trigger(build_trigger(agent_task_id=task.task_id, deadline=time.time() + 0.2))
    assert (event["verdict"], event["status"]) == ("timeout", "running")


@pytest.mark.parametrize("event", [None, {}, "done", {"verdict": "reached"}, {"chosen_options": ["Send"]}])
def test_an_event_that_is_not_ours_is_rejected(event: Any) -> None:
    with pytest.raises(AgentTaskError, match="something other than its trigger's event"):
        read_event(event)


def test_an_events_verdict_and_ids_survive_the_database(airflow_home: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", '{"conn_type": "http"}')
    (event,) = run_trigger(build_trigger(conn_id="other", agent_id="agt_1", started_at=12.5))
    started, decision = read_event(json.loads(json.dumps(event)))
    assert (started.agent_task_id, started.agent_id, started.started_at) == ("tsk_1", "agt_1", 12.5)
    assert decision.verdict is Verdict.ERROR
    assert decision.error is not None
    assert decision.error.is_final


def test_a_scheduled_trigger_does_not_fire_within_the_resume_guard(
    monkeypatch: Any,
) -> None:
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "4")
    assert read_resume_guard() == 5
    trigger = build_trigger(conn_id="there_is_none", deadline=time.time() - 1)
    trigger.task_instance = SimpleNamespace(task_id="agent")

    async def fire() -> None:
        await asyncio.wait_for(anext(trigger.run()), 0.3)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(fire())
