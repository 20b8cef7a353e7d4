"""Who gets a slot of a connection, and when: real rows and records, over real requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

import pytest
import requests
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.task_state_store import TaskStateStoreModel
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType
from pytest_mock import MockerFixture
from sqlalchemy import update

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.airflow_compat.api_server import order_plugin
from airflow_agent_tasks.airflow_compat.detached_rows import Detached
from airflow_agent_tasks.airflow_compat.ended_tasks import SCOPE_NAMES, build_scope, find_record
from airflow_agent_tasks.airflow_compat.slot_orders import NO_LIMIT, PATH, RESUME_METHOD
from airflow_agent_tasks.airflow_compat.slot_rows import SLOT_KEY
from airflow_agent_tasks.errors import AgentTaskCancelledError, AgentTaskError
from airflow_agent_tasks.hooks.find_hook import find_hook
from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY, Submission
from airflow_agent_tasks.plugin import slot_endpoint
from airflow_agent_tasks.plugin.detached_agents import MAX_SILENCE, RECHECK, DetachedAgents
from tests.airflow.conftest import LONG_SCRIPT, finish_stops
from tests.airflow.waiting_rows import put, read, read_states, set_trigger

CONN_ID = "shinzo_default"
TASKS = "@task\ndef agent(number):\n    return number\n\nagent.expand(number=list(range({})))"
#: A task that has deferred to wait for its slot.
WAITS = {"next_method": RESUME_METHOD, "next_kwargs": {}}


@pytest.fixture(autouse=True)
def nothing_is_known(mocker: MockerFixture) -> None:
    """Let the API server of the tests, which is one for all, know no agent task of an earlier test."""
    mocker.patch.object(slot_endpoint, "_detached", DetachedAgents())
    mocker.patch.object(slot_endpoint, "_limits", {})
    # The tests make its rounds.
    mocker.patch.object(slot_endpoint.clock, "start")


@pytest.fixture(autouse=True)
def other_tests_hold_no_slots(airflow_home: Any) -> Iterator[None]:
    """Close the records that other tests have left, and end the tasks of this one."""
    end_all()
    yield
    end_all()


def end_all() -> None:
    with create_session() as session:
        session.query(TaskStateStoreModel).delete()
        session.execute(update(TaskInstance).values(state="success"))


@pytest.fixture
def rows(run_dag: Any, api_server: str) -> list[Any]:
    """Six task instances that run, as far as Airflow's database tells."""
    return start_tasks(run_dag, 6)


def start_tasks(run_dag: Any, number: int) -> list[Any]:
    run = run_dag(TASKS.format(number))
    rows = [run._task_instance("agent", index) for index in range(number)]
    set_trigger(rows[0], DagRunTriggeredByType.REST_API)
    pause(rows[0], False)
    for row in rows:
        put(row, "running")
    return rows


def pause(row: Any, is_paused: bool = True) -> None:
    with create_session() as session:
        dag = update(DagModel).where(DagModel.dag_id == row.dag_id)
        session.execute(dag.values(is_paused=is_paused))


def take(row: Any, limit: int, conn_id: str = CONN_ID) -> bool:
    order = {"do": "take slot", "conn_id": conn_id, "limit": limit, "task_instance_id": str(row.id)}
    return bool(order_plugin(PATH, "take a slot", order)["has_slot"])


def take_after_check(row: Any, limit: int, conn_id: str = CONN_ID) -> bool:
    """Ask twice: the first order has the service asked about agents that nobody waits for."""
    take(row, limit, conn_id)
    finish_stops()
    return take(row, limit, conn_id)


@pytest.fixture
def running_agent(airflow_home: Any, agent_task_sandbox: Any) -> AgentTask:
    return find_hook(CONN_ID).start_task(message=LONG_SCRIPT)


def share(limit: int, conn_id: str = CONN_ID) -> None:
    order_plugin(PATH, "share the slots", {"do": "share slots", "conn_id": conn_id, "limit": limit})


def record(row: Any, submission: Submission) -> None:
    """Write the record of a task's agent task."""
    names = {name: getattr(row, name) for name in SCOPE_NAMES}
    with create_session() as session:
        run_id = session.query(DagRun.id).filter_by(dag_id=row.dag_id, run_id=row.run_id).scalar()
        stored = {"key": RECORD_KEY, "value": json.dumps(submission.to_json())}
        session.add(
            TaskStateStoreModel(**names, **stored, dag_run_id=run_id, updated_at=datetime.now(timezone.utc))
        )


def begin_next_try(row: Any) -> Any:
    with create_session() as session:
        session.get(TaskInstance, row.id).prepare_db_for_next_try(session)
        session.flush()
        names = {name: getattr(row, name) for name in SCOPE_NAMES}
        found = session.query(TaskInstance).filter_by(**names).one()
        found.try_number += 1
    put(found, "running")
    return found


def test_the_first_to_come_are_the_first_to_be_served(rows: list[Any]) -> None:
    assert [take(row, 2) for row in rows] == [True, True, False, False, False, False]
    assert [take(row, 2) for row in reversed(rows)] == [False, False, False, False, True, True]
    put(rows[0], "success")
    # The last one asks first, but has waited for less time.
    assert [take(rows[index], 2) for index in (5, 4, 3, 2)] == [False, False, False, True]
    put(rows[1], "failed")
    put(rows[2], "skipped")
    share(2)
    assert [take(row, 2) for row in rows[3:]] == [True, True, False]


def test_a_task_that_waits_without_a_worker_resumes_with_its_slot(rows: list[Any]) -> None:
    assert [take(row, 1) for row in rows[:3]] == [True, False, False]
    for row in rows[1:3]:
        put(row, "deferred", **WAITS)
    share(1)
    assert read_states(*rows[:3]) == ["running", "deferred", "deferred"]
    put(rows[0], "success")
    share(1)
    assert read_states(*rows[1:3]) == ["scheduled", "deferred"]
    found = read(rows[1])
    assert found.next_method == RESUME_METHOD
    assert found.next_kwargs == {"event": {"slot": True, "try_number": found.try_number}}
    share(1)  # and keeps it until it ends
    assert read_states(*rows[1:3]) == ["scheduled", "deferred"]
    put(rows[1], "running")
    assert take(rows[1], 1) is True


def test_a_task_that_has_just_left_its_worker_resumes_later(rows: list[Any]) -> None:
    assert [take(row, 1) for row in rows[:2]] == [True, False]
    put(rows[1], "deferred", seconds_ago=-60, **WAITS)
    put(rows[0], "success")
    share(1)
    assert read_states(rows[1]) == ["deferred"]
    put(rows[1], "deferred", **WAITS)
    share(1)
    assert read_states(rows[1]) == ["scheduled"]


def test_a_task_that_waits_for_its_agent_is_not_resumed(rows: list[Any]) -> None:
    assert take(rows[0], 1) is True
    put(rows[0], "deferred")
    share(1)
    assert read_states(rows[0]) == ["deferred"]


@pytest.mark.parametrize("state", ["up_for_retry", None, "failed", "removed"])
def test_a_lost_task_that_started_nothing_holds_no_slot(rows: list[Any], state: str | None) -> None:
    assert [take(row, 1) for row in rows[:2]] == [True, False]
    put(rows[0], state)
    assert take(rows[1], 1) is True


@pytest.mark.parametrize("state", ["running", "deferred", "awaiting_input"])
def test_a_task_that_waits_for_its_agent_has_a_slot(rows: list[Any], state: str) -> None:
    record(rows[0], Submission("key", 1, 0, "tsk_1", conn_id=CONN_ID))
    put(rows[0], state)
    assert (take(rows[1], 1), take(rows[1], 2)) == (False, True)


@pytest.mark.parametrize("state", ["up_for_retry", "queued", "scheduled", None, "failed", "success"])
def test_an_agent_counts_as_long_as_it_is_active_whatever_became_of_its_task(
    rows: list[Any], running_agent: AgentTask, state: str | None
) -> None:
    record(rows[0], Submission("key", 1, 0, running_agent.task_id, running_agent.agent_id, conn_id=CONN_ID))
    put(rows[0], state)
    assert take_after_check(rows[1], 1) is False
    find_hook(CONN_ID).stop_task(running_agent.task_id, running_agent.agent_id)
    slot_endpoint._detached = DetachedAgents()  # it asks again at once
    assert take_after_check(rows[1], 1) is True
    # The result of one whose next try is to come must still be found.
    assert find_record(build_scope(rows[0])) is None or state not in ("failed", "success")


@pytest.mark.parametrize(("state", "counts"), [("up_for_retry", True), ("queued", True), (None, False)])
def test_a_start_without_a_response_counts_until_the_next_try(
    rows: list[Any], state: str | None, counts: bool
) -> None:
    record(rows[0], Submission("key", 1, 0, conn_id=CONN_ID))
    put(rows[0], state)
    assert take_after_check(rows[1], 1) is not counts


def test_the_agent_of_a_task_that_is_about_to_resume_counts_once(
    rows: list[Any], running_agent: AgentTask
) -> None:
    assert take(rows[0], 2) is True
    record(rows[0], Submission("key", 1, 0, running_agent.task_id, running_agent.agent_id, conn_id=CONN_ID))
    put(rows[0], "scheduled")
    assert take_after_check(rows[1], 2) is True


def test_a_connection_that_the_api_server_cannot_read_blocks_nobody(
    rows: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    record(rows[0], Submission("key", 1, 0, "tsk_1", conn_id="unknown"))
    put(rows[0], "failed")
    assert take_after_check(rows[1], 1, "unknown") is True
    assert "Agent task tsk_1 does not count towards max_concurrent_tasks: " in caplog.text


def test_a_service_that_does_not_answer_keeps_its_agents_counted(
    rows: list[Any], agent_task_sandbox: Any, caplog: pytest.LogCaptureFixture
) -> None:
    record(rows[0], Submission("key", 1, 0, "tsk_1", "agt_1", conn_id=CONN_ID))
    put(rows[0], "failed")
    agent_task_sandbox.faults([{"status": 503, "times": 1}])
    assert take_after_check(rows[1], 1) is False
    assert "Agent task tsk_1 may be active, and counts for an hour: " in caplog.text


def test_a_service_is_asked_about_an_agent_every_half_minute(mocker: MockerFixture) -> None:
    now, calls = [100.0], []
    agents = DetachedAgents(lambda conn_id: calls.append, lambda: now[0])
    detached = Detached(7, "", Submission("key", 1, 0, "tsk_1", conn_id="unknown"))
    assert [agents.is_active(detached) for _ in range(3)] == [True] * 3
    assert len(calls) == 1
    now[0] += 1000.0  # it is still being asked
    assert agents.is_active(detached) is True
    assert len(calls) == 1
    calls[0]()
    assert agents.is_active(detached) is False
    now[0] += RECHECK
    assert agents.is_active(detached) is False
    assert len(calls) == 2


def test_an_agent_whose_service_is_silent_for_an_hour_counts_no_more(
    airflow_home: Any, agent_task_sandbox: Any
) -> None:
    now = [100.0]
    agents = DetachedAgents(lambda conn_id: lambda call: call(), lambda: now[0])
    detached = Detached(7, "", Submission("key", 1, 0, "tsk_1", "agt_1", conn_id=CONN_ID))
    agent_task_sandbox.faults([{"status": 503, "times": 3}])
    assert agents.is_active(detached) is True
    now[0] += MAX_SILENCE / 2
    assert agents.is_active(detached) is True
    now[0] += MAX_SILENCE / 2
    agents.is_active(detached)
    assert agents.is_active(detached) is False


def test_a_row_that_names_another_agent_is_not_taken_for_the_earlier_one() -> None:
    agents = DetachedAgents(lambda conn_id: lambda call: call())
    ended = Detached(7, "", Submission("key", 1, 0, "tsk_1", conn_id="unknown"))
    agents.is_active(ended)
    assert agents.is_active(ended) is False
    another = Detached(7, "", Submission("key", 1, 0, "tsk_2", conn_id="unknown"))
    assert agents.is_active(another) is True


def test_a_start_that_is_to_be_sent_again_has_no_slot_while_it_asks_for_one(rows: list[Any]) -> None:
    # Both were cleared, after starts that got no response.
    for row, has_slot in zip(rows, (True, False), strict=False):
        record(row, Submission("key", 1, 0, conn_id=CONN_ID))
        assert take(row, 1) is has_slot
    put(rows[1], "deferred", **WAITS)
    assert take(rows[0], 1) is True
    put(rows[0], "success")
    share(1)
    assert read_states(rows[1]) == ["scheduled"]


def test_a_start_that_a_retry_sends_again_without_asking_counts(rows: list[Any]) -> None:
    record(rows[0], Submission("key", 1, 0, conn_id=CONN_ID))
    assert take(rows[1], 1) is False


def test_the_tasks_of_a_paused_dag_get_no_slot_and_give_back_what_they_have_not_used(
    run_dag: Any, api_server: str
) -> None:
    first, second = start_tasks(run_dag, 3), start_tasks(run_dag, 2)
    assert [take(row, 1) for row in (*first, *second)] == [True, False, False, False, False]
    for row in (*first[1:], *second):
        put(row, "deferred", **WAITS)
    put(first[0], "success")
    share(1)
    assert read_states(*first[1:], *second) == ["scheduled", "deferred", "deferred", "deferred"]
    # Its next execution has not begun, and will not.
    pause(first[1])
    share(1)
    assert read_states(*first[1:], *second) == ["scheduled", "deferred", "scheduled", "deferred"]
    pause(first[1], False)
    put(first[1], "running")
    assert take(first[1], 1) is False
    put(second[0], "success")
    assert take(first[1], 1) is True


def test_only_the_last_in_the_queue_keeps_its_trigger(rows: list[Any]) -> None:
    assert sum(take(row, 1) for row in rows) == 1
    for row in rows:
        put(row, "deferred", **(WAITS if row is not rows[0] else {}))
    before = read(rows[1]).updated_at
    for _ in range(2):
        share(1)
        assert [read(row).trigger_id is not None for row in rows] == [True] + [False] * 4 + [True]
    assert read(rows[1]).updated_at == before
    # A task without a trigger resumes too.
    put(rows[0], "success")
    share(1)
    assert read_states(*rows[1:3]) == ["scheduled", "deferred"]


def test_a_round_of_the_server_shares_the_slots_if_no_order_comes(rows: list[Any]) -> None:
    assert slot_endpoint._make_round() is False
    assert [take(row, 1) for row in rows[:3]] == [True, False, False]
    for row in rows[1:3]:
        put(row, "deferred", **WAITS)
    put(rows[0], "success")
    assert slot_endpoint._make_round() is True
    assert read_states(*rows[1:3]) == ["scheduled", "deferred"]


@pytest.mark.parametrize("is_known", [True, False], ids=["long ago", "never"])
def test_a_server_that_has_read_no_limit_of_late_resumes_the_first_to_ask(
    rows: list[Any], mocker: MockerFixture, is_known: bool
) -> None:
    assert [take(row, 1) for row in rows[:3]] == [True, False, False]
    for row in rows[1:3]:
        put(row, "deferred", **WAITS)
    if is_known:
        mocker.patch.object(slot_endpoint, "LIMIT_AGE", 0.0)  # another server may have got a lower one
    else:
        slot_endpoint._limits.clear()  # it has started anew
    assert slot_endpoint._make_round() is True
    assert read_states(*rows[:3]) == ["running", "scheduled", "deferred"]
    put(rows[1], "running")
    assert take(rows[1], 1) is False


def test_a_server_that_gets_no_limit_resumes_one_task_in_a_while(rows: list[Any]) -> None:
    assert [take(row, 1) for row in rows[:3]] == [True, False, False]
    for row in rows[1:3]:
        put(row, "deferred", **WAITS)
    slot_endpoint._limits.clear()
    for _ in range(3):
        assert slot_endpoint._make_round() is True
        assert read_states(*rows[:3]) == ["running", "scheduled", "deferred"]


def test_a_round_leaves_the_tasks_of_a_paused_dag_alone(rows: list[Any]) -> None:
    assert [take(row, 1) for row in rows[:2]] == [True, False]
    put(rows[1], "deferred", **WAITS)
    pause(rows[1])
    slot_endpoint._limits.clear()
    assert slot_endpoint._make_round() is False
    assert read_states(rows[1]) == ["deferred"]


def test_all_that_wait_get_slots_when_there_is_no_limit_any_more(rows: list[Any]) -> None:
    assert sum(take(row, 1) for row in rows) == 1
    for row in rows[1:]:
        put(row, "deferred", **WAITS)
    share(NO_LIMIT)
    assert read_states(*rows) == ["running"] + ["scheduled"] * 5


def test_a_task_whose_place_was_deleted_asks_again(rows: list[Any]) -> None:
    assert [take(row, 1) for row in rows[:2]] == [True, False]
    put(rows[1], "deferred", **WAITS)
    with create_session() as session:
        names = {name: getattr(rows[1], name) for name in SCOPE_NAMES}
        session.query(TaskStateStoreModel).filter_by(key=SLOT_KEY, **names).delete()
    share(1)
    assert read_states(rows[1]) == ["scheduled"]


def test_an_agent_that_was_started_without_a_limit_counts(rows: list[Any]) -> None:
    record(rows[0], Submission("key", 1, 0, "tsk_1", conn_id=CONN_ID))
    assert take(rows[1], 1) is False
    assert take(rows[1], 2) is True


@pytest.mark.parametrize("conn_id", ["shinzo_other", "SHINZO_DEFAULT", "shinzo_defaul", 'shinzo_default"'])
def test_each_connection_has_slots_of_its_own(rows: list[Any], conn_id: str) -> None:
    record(rows[0], Submission("key", 1, 0, "tsk_1", conn_id=conn_id))
    assert take(rows[1], 1) is True
    assert (take(rows[2], 1), take(rows[2], 1, "another"), take(rows[3], 1, "another")) == (
        False,
        True,
        False,
    )


def test_an_agent_that_says_the_name_of_another_connection_takes_no_slot_of_it(rows: list[Any]) -> None:
    said = {"conn_id": CONN_ID}
    record(rows[0], Submission("key", 1, 0, "tsk_1", conn_id="other", result=said))
    assert take(rows[1], 1) is True


def test_a_retry_keeps_the_place_in_the_queue_but_not_a_slot_it_did_not_use(rows: list[Any]) -> None:
    assert [take(row, 1) for row in rows[:3]] == [True, False, False]
    retried = begin_next_try(rows[1])
    assert take(retried, 1) is False
    put(rows[0], "success")
    assert (take(rows[2], 1), take(retried, 1)) == (False, True)
    again = begin_next_try(retried)
    assert take(rows[2], 1) is True
    assert take(again, 1) is False


@pytest.mark.parametrize("state", ["success", "failed", "deferred", "queued", None])
def test_a_task_that_does_not_run_gets_none(rows: list[Any], state: str | None) -> None:
    put(rows[0], state)
    with pytest.raises(AgentTaskCancelledError, match="no longer running"):
        take(rows[0], 1)


def test_many_at_once_get_no_more_than_there_are(run_dag: Any, api_server: str) -> None:
    rows = start_tasks(run_dag, 24)
    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(lambda row: take(row, 5), rows)) == 5
        list(pool.map(lambda _: share(5), range(12)))
        assert sum(pool.map(lambda row: take(row, 5), rows)) == 5


def test_orders_that_cannot_be_carried_out_in_time_are_sent_again(
    rows: list[Any], mocker: MockerFixture
) -> None:
    mocker.patch.object(slot_endpoint, "MAX_WAIT", 0.01)
    lock = slot_endpoint._locks[CONN_ID]
    with lock, pytest.raises(AgentTaskError, match="503"):
        take(rows[0], 1)
    assert take(rows[0], 1) is True


@pytest.mark.parametrize(
    "change", [{"limit": 0}, {"limit": "many"}, {"conn_id": 7}, {"conn_id": "a\0"}, {"task_instance_id": "1"}]
)
def test_a_malformed_order_is_rejected(rows: list[Any], change: dict[str, Any]) -> None:
    order = {"do": "take slot", "conn_id": CONN_ID, "limit": 1, "task_instance_id": str(rows[0].id), **change}
    with pytest.raises(AgentTaskError, match="status 400"):
        order_plugin(PATH, "take a slot", order)


def test_an_unsigned_order_is_rejected(rows: list[Any], api_server: str) -> None:
    order = {"do": "share slots", "conn_id": CONN_ID, "limit": 1}
    assert requests.post(f"{api_server}{PATH}", json=order, timeout=10).status_code == 403


@pytest.mark.parametrize("value", ["", "null", "[]", "7", '{"conn_id": 3}', "not JSON"])
def test_a_damaged_place_is_replaced(rows: list[Any], value: str) -> None:
    assert take(rows[0], 1) is True
    with create_session() as session:
        session.execute(update(TaskStateStoreModel).filter_by(key=SLOT_KEY).values(value=value))
    assert take(rows[0], 1) is True
    assert take(rows[1], 1) is False
