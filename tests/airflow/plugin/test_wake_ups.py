"""When a callback wakes a task, and when it does not: real rows and records, and real threads."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from airflow.models.taskinstance import TaskInstance
from airflow.state import get_state_backend
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType
from pytest_mock import MockerFixture
from sqlalchemy.exc import OperationalError

from airflow_agent_tasks.airflow_compat.ended_tasks import build_scope
from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY
from airflow_agent_tasks.plugin import wake_ups
from airflow_agent_tasks.plugin.background_calls import Call
from airflow_agent_tasks.plugin.wake_ups import INTERVAL, MAX_HOLD, WakeUps, wake
from lab.cluster.processes import wait_until
from tests.airflow.conftest import finish_stops
from tests.airflow.waiting_rows import (
    STARTS_TWO,
    Statements,
    put,
    read,
    read_states,
    set_trigger,
    start,
    token_of,
)

SECRET = "a-parameter-of-the-statement"


@pytest.fixture
def row(run_dag: Any, api_server: str) -> Any:
    return start(run_dag)


@pytest.fixture
def clock(mocker: MockerFixture) -> Any:
    """The clock of the wake-ups."""
    clock = SimpleNamespace(now=1_000.0)
    mocker.patch.object(wake_ups, "time").monotonic.side_effect = lambda: clock.now
    return clock


@pytest.mark.parametrize("state", ["deferred", "awaiting_input"])
def test_a_waiting_task_is_woken_at_once(row: Any, state: str, caplog: Any) -> None:
    put(row, state)
    token = token_of(row)
    caplog.set_level("INFO", logger=wake_ups.__name__)
    assert list(wake(token)) == []
    assert read_states(row) == ["scheduled"]
    assert read(row).next_kwargs["event"] == {"callback": True, "try_number": 1}
    assert caplog.messages == [f"Woke task agent of DAG {row.dag_id}, run {row.run_id}, for a callback"]


@pytest.mark.parametrize(
    "state",
    [
        *("scheduled", "queued", "restarting", "up_for_retry", "up_for_reschedule", "upstream_failed"),
        *("success", "failed", "skipped", "removed", None),
    ],
)
def test_a_task_in_another_state_is_left(row: Any, state: str | None) -> None:
    put(row, state)
    before = read(row)
    assert list(wake(token_of(row))) == []
    assert (read(row).state, read(row).updated_at) == (state, before.updated_at)


def test_an_absent_task_is_none(row: Any) -> None:
    assert list(wake(replace(token_of(row), task_instance_id=uuid4()))) == []


def test_a_task_of_dag_test_is_left(row: Any) -> None:
    set_trigger(row, DagRunTriggeredByType.TEST)
    assert list(wake(token_of(row))) == []
    assert read_states(row) == ["deferred"]


def test_a_call_that_comes_before_the_deferral_is_held(row: Any) -> None:
    put(row, "running")
    waits = wake(token_of(row))
    assert next(waits) >= INTERVAL
    assert next(waits) >= INTERVAL
    assert read_states(row) == ["running"]
    put(row, "deferred")
    assert list(waits) == []
    assert read_states(row) == ["scheduled"]


def test_a_call_is_held_for_a_limited_time_and_ever_more_rarely(row: Any, clock: Any) -> None:
    put(row, "running")
    waits = []
    for seconds in wake(token_of(row)):
        waits.append(seconds)
        clock.now += seconds
    assert waits == sorted(waits)
    assert waits[0] == INTERVAL
    assert MAX_HOLD <= sum(waits) <= 1.5 * MAX_HOLD
    assert len(waits) < 15
    assert read_states(row) == ["running"]


def test_a_task_that_just_left_its_worker_is_woken_later(row: Any) -> None:
    put(row, "deferred", seconds_ago=0.0)
    waits = wake(token_of(row))
    # min_heartbeat_interval is 0 here: a second for the worker to leave, one for the scheduler to notice.
    assert 0 < next(waits) <= 2
    assert read_states(row) == ["deferred"]
    put(row, "deferred")
    assert list(waits) == []
    assert read_states(row) == ["scheduled"]


def test_the_token_of_an_earlier_try_wakes_the_one_that_attached(row: Any) -> None:
    token = token_of(row)
    with create_session() as session:
        session.get(TaskInstance, row.id).prepare_db_for_next_try(session)
        session.flush()
        names = {"dag_id": row.dag_id, "run_id": row.run_id, "task_id": row.task_id}
        present = session.query(TaskInstance).filter_by(**names).one()
    put(present, "deferred")
    assert list(wake(token)) == []
    assert read_states(present) == ["scheduled"]


@pytest.mark.parametrize("state", ["deferred", "awaiting_input", "running"])
def test_the_token_of_an_earlier_submission_does_nothing(row: Any, state: str) -> None:
    token = token_of(row)
    put(row, state)
    scope, backend = build_scope(row), get_state_backend()
    stored = backend.get(scope, RECORD_KEY)
    backend.set(scope, RECORD_KEY, stored.replace('"airflow-', '"airflow-of-the-next-'))
    assert token_of(row) != token
    assert list(wake(token)) == []
    assert read_states(row) == [state]
    backend.delete(scope, RECORD_KEY)
    assert list(wake(token)) == []
    assert read_states(row) == [state]


@pytest.mark.parametrize("state", ["deferred", "running"])
def test_a_task_with_a_damaged_record_is_left(row: Any, state: str) -> None:
    token = token_of(row)
    put(row, state)
    get_state_backend().set(build_scope(row), RECORD_KEY, '{"task_id": []}')
    assert list(wake(token)) == []
    assert read_states(row) == [state]


def test_a_mapped_task_wakes_only_its_own_index(run_dag: Any, api_server: str) -> None:
    second = start(run_dag, STARTS_TWO, map_index=1)
    with create_session() as session:
        names = {"dag_id": second.dag_id, "run_id": second.run_id, "map_index": 0}
        first = session.query(TaskInstance).filter_by(**names).one()
    put(first, "deferred")
    assert list(wake(token_of(second))) == []
    assert read_states(first, second) == ["deferred", "scheduled"]
    assert list(wake(replace(token_of(second), task_instance_id=first.id))) == []
    assert read_states(first) == ["deferred"]


def test_a_task_that_changes_meanwhile_is_looked_at_again(row: Any, mocker: MockerFixture) -> None:
    resume = wake_ups.resume

    def change_and_resume(found: Any) -> bool:
        put(row, "deferred", seconds_ago=50.0)
        return resume(found)

    token = token_of(row)
    mocker.patch.object(wake_ups, "resume", side_effect=change_and_resume)
    waits = wake(token)
    assert next(waits) == INTERVAL
    assert read_states(row) == ["deferred"]
    mocker.patch.object(wake_ups, "resume", resume)
    assert list(waits) == []
    assert read_states(row) == ["scheduled"]


def fail(*args: Any) -> Any:
    raise OperationalError("SELECT ?", {"secret": SECRET}, ValueError(f"database is locked: {SECRET}"))


@pytest.mark.parametrize("part", ["find_task", "read_submission", "measure_resume_delay", "resume"])
def test_an_error_of_the_database_is_passed_over(row: Any, mocker: MockerFixture, part: str) -> None:
    token, original = token_of(row), getattr(wake_ups, part)
    mocker.patch.object(wake_ups, part, side_effect=fail)
    waits = wake(token)
    assert [round(next(waits)) for _ in range(3)] == [INTERVAL] * 3
    assert read_states(row) == ["deferred"]
    mocker.patch.object(wake_ups, part, original)
    assert list(waits) == []
    assert read_states(row) == ["scheduled"]


def test_a_database_that_stays_away_is_told_once_and_without_what_was_asked(
    row: Any, mocker: MockerFixture, caplog: Any, clock: Any
) -> None:
    token, began_at = token_of(row), clock.now
    caplog.set_level("INFO", logger=wake_ups.__name__)
    mocker.patch.object(wake_ups, "find_task", side_effect=fail)
    for seconds in wake(token):
        clock.now += seconds
    assert clock.now - began_at >= MAX_HOLD
    assert caplog.messages == ["Could not wake the task of a callback: OperationalError"]
    assert SECRET not in caplog.text
    assert read_states(row) == ["deferred"]


@pytest.fixture
def calls() -> WakeUps:
    return WakeUps()


@pytest.fixture
def started(calls: WakeUps, mocker: MockerFixture) -> list[Call]:
    """The background calls, which nothing makes but the test."""
    started: list[Call] = []
    mocker.patch.object(calls._calls, "start", side_effect=started.append)
    return started


def test_a_record_without_the_agent_tasks_id_leaves_the_task_to_its_trigger(row: Any) -> None:
    token, scope = token_of(row), build_scope(row)
    stored = json.loads(get_state_backend().get(scope, RECORD_KEY))
    get_state_backend().set(scope, RECORD_KEY, json.dumps({**stored, "task_id": None}))
    assert list(wake(token)) == []
    assert read_states(row) == ["deferred"]
    put(row, "running")
    assert next(wake(token)) >= INTERVAL


def test_ten_calls_at_once_are_one_attempt(row: Any, calls: WakeUps, started: Any) -> None:
    for _ in range(10):
        calls.request(token_of(row))
    (call,) = started
    assert call() == INTERVAL
    assert read_states(row) == ["scheduled"]
    put(row, "deferred")
    assert call() is None
    assert read_states(row) == ["deferred"]


def test_calls_during_the_work_are_one_more_attempt(row: Any, calls: WakeUps, started: Any) -> None:
    calls.request(token_of(row))
    (call,) = started
    for _ in range(3):
        put(row, "deferred")
        assert call() == INTERVAL
        assert read_states(row) == ["scheduled"]
        for _ in range(10):
            calls.request(token_of(row))
    put(row, "deferred")
    assert call() == INTERVAL
    assert call() is None
    assert len(started) == 1


def test_a_call_while_one_is_held_adds_no_thread_and_is_not_lost(
    row: Any, calls: WakeUps, started: Any
) -> None:
    put(row, "running")
    calls.request(token_of(row))
    (call,) = started
    assert call() >= INTERVAL
    calls.request(token_of(row))
    put(row, "deferred")
    assert call() == INTERVAL
    assert read_states(row) == ["scheduled"]
    # It may have come after the woken task had looked.
    put(row, "deferred")
    assert call() == INTERVAL
    assert read_states(row) == ["scheduled"]
    assert call() is None
    assert len(started) == 1


def test_a_call_after_the_work_begins_anew(row: Any, calls: WakeUps, started: Any) -> None:
    for number in range(3):
        put(row, "deferred")
        calls.request(token_of(row))
        assert started[number]() == INTERVAL
        assert started[number]() is None
    assert len(started) == 3


def test_one_task_does_not_share_its_attempts_with_another(row: Any, calls: WakeUps, started: Any) -> None:
    token = token_of(row)
    for number in range(20):
        calls.request(replace(token, submission=f"{number:016}"))
    calls.request(token)
    assert len(started) == 21


def test_calls_at_once_from_many_threads_wake_the_task_in_the_background(row: Any, calls: WakeUps) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(calls.request, [token_of(row)] * 100))
    assert wait_until(lambda: read(row).state == "scheduled", timeout=30)
    finish_stops()
    assert calls._is_called_again == {}


def test_the_thread_rests_three_times_as_long_as_it_computed(
    row: Any, calls: WakeUps, started: Any, mocker: MockerFixture
) -> None:
    clock = mocker.patch.object(wake_ups, "time", wraps=time)
    clock.thread_time.side_effect = [7.0, 7.004]
    calls.request(token_of(row))
    (call,) = started
    assert call() == INTERVAL
    clock.sleep.assert_called_once_with(pytest.approx(0.012))
    assert read_states(row) == ["scheduled"]


def test_one_task_does_not_wait_for_another(run_dag: Any, row: Any) -> None:
    calls, other = WakeUps(), start(run_dag)
    put(row, "running")
    calls.request(token_of(row))
    calls.request(token_of(other))
    assert wait_until(lambda: read(other).state == "scheduled", timeout=30)
    assert read_states(row) == ["running"]
    put(row, "success")


def test_two_servers_that_get_the_same_call_resume_the_task_once(row: Any, mocker: MockerFixture) -> None:
    resumed: list[bool] = []
    resume, are_ready = wake_ups.resume, threading.Barrier(2)

    def resume_together(found: Any) -> bool:
        are_ready.wait(30)
        resumed.append(resume(found))
        return resumed[-1]

    mocker.patch.object(wake_ups, "resume", side_effect=resume_together)
    with ThreadPoolExecutor(2) as servers:
        waits = list(servers.map(lambda token: next(wake(token), None), [token_of(row)] * 2))
    assert sorted(resumed) == [False, True]
    # The one that came too late looks again.
    assert sorted(waits, key=str) == [INTERVAL, None]
    assert read_states(row) == ["scheduled"]


def test_a_call_for_a_task_that_is_gone_costs_few_statements(row: Any) -> None:
    token = replace(token_of(row), task_instance_id=uuid4())
    with Statements() as statements:
        assert list(wake(token)) == []
    assert len(statements) == 2
    assert all(statement.startswith("SELECT") for statement in statements)
