"""Which waiting task a callback finds, and how it resumes: in Airflow's database."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from airflow.models.taskinstance import TaskInstance
from airflow.state import get_state_backend
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType
from sqlalchemy import delete

from airflow_agent_tasks.airflow_compat.ended_tasks import build_scope
from airflow_agent_tasks.airflow_compat.resume_delay import measure_resume_delay
from airflow_agent_tasks.airflow_compat.waiting_tasks import (
    find_task,
    read_submission,
    resume,
)
from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY
from tests.airflow.waiting_rows import STARTS_TWO, put, read, read_states, set_trigger, start

EVENT = {"callback": True, "try_number": 1}


@pytest.fixture
def row(run_dag: Any, api_server: str) -> Any:
    return start(run_dag)


def begin_next_try(row: Any) -> Any:
    """Let a task begin its next try, and return its new task instance."""
    with create_session() as session:
        session.get(TaskInstance, row.id).prepare_db_for_next_try(session)
        session.flush()
        names = {
            "dag_id": row.dag_id,
            "run_id": row.run_id,
            "task_id": row.task_id,
            "map_index": row.map_index,
        }
        return session.query(TaskInstance).filter_by(**names).one()


def test_a_deferred_task_resumes_with_the_event_and_without_its_trigger(row: Any) -> None:
    assert resume(find_task(row.id)) is True
    found = read(row)
    assert (found.state, found.trigger_id, found.next_method) == ("scheduled", None, "execute_complete")
    assert found.next_kwargs == {"is_asked": True, "event": EVENT}
    assert found.scheduled_dttm > found.start_date


def test_a_parked_task_resumes_with_the_event(row: Any) -> None:
    put(row, "awaiting_input")
    assert resume(find_task(row.id)) is True
    found = read(row)
    assert (found.state, found.next_method) == ("scheduled", "take_answer")
    assert found.next_kwargs == {"question_id": "1-x", "event": EVENT}


@pytest.mark.parametrize("next_kwargs", [None, {}, {"is_asked": True}], ids=str)
def test_the_arguments_of_the_next_execution_are_kept(row: Any, next_kwargs: Any) -> None:
    put(row, "deferred", next_kwargs=next_kwargs)
    assert resume(find_task(row.id)) is True
    assert read(row).next_kwargs == {**(next_kwargs or {}), "event": EVENT}


def test_a_task_is_found_with_its_names_and_its_state(row: Any) -> None:
    found = find_task(row.id)
    names = (found.dag_id, found.run_id, found.task_id, found.id, found.state)
    assert names == (row.dag_id, row.run_id, "agent", row.id, "deferred")


@pytest.mark.parametrize("task_instance_id", [uuid4(), UUID(int=0), UUID(int=2**128 - 1)])
def test_an_unknown_task_is_not_found(row: Any, task_instance_id: UUID) -> None:
    assert find_task(task_instance_id) is None


@pytest.mark.parametrize("tries", [1, 2])
def test_the_id_of_an_earlier_try_finds_the_present_one(row: Any, tries: int) -> None:
    present = row
    for _ in range(tries):
        present = begin_next_try(present)
        put(present, "deferred")
    assert present.id != row.id
    assert find_task(row.id).id == find_task(present.id).id == present.id
    assert resume(find_task(row.id)) is True
    assert read_states(present) == ["scheduled"]


def test_an_earlier_try_of_a_task_that_is_gone_finds_nothing(row: Any) -> None:
    present = begin_next_try(row)
    with create_session() as session:
        session.execute(delete(TaskInstance).filter_by(id=present.id))
    assert find_task(row.id) is None


def test_an_earlier_try_of_a_mapped_task_finds_its_own_index(run_dag: Any, api_server: str) -> None:
    rows = [start(run_dag, STARTS_TWO, map_index=1)]
    with create_session() as session:
        names = {"dag_id": rows[0].dag_id, "run_id": rows[0].run_id, "map_index": 0}
        rows.insert(0, session.query(TaskInstance).filter_by(**names).one())
    put(rows[0], "deferred")
    assert len({read_submission(find_task(row.id)).idempotency_key for row in rows}) == 2
    present = begin_next_try(rows[1])
    put(present, "deferred")
    assert resume(find_task(rows[1].id)) is True
    assert read_states(rows[0], present) == ["deferred", "scheduled"]


def test_a_task_of_dag_test_is_never_found(row: Any) -> None:
    set_trigger(row, DagRunTriggeredByType.TEST)
    assert find_task(row.id) is None
    begin_next_try(row)
    assert find_task(row.id) is None


@pytest.mark.parametrize("triggered_by", [None, *DagRunTriggeredByType], ids=str)
def test_a_task_of_every_other_run_is_found(row: Any, triggered_by: Any) -> None:
    set_trigger(row, triggered_by)
    assert (find_task(row.id) is None) is (triggered_by is DagRunTriggeredByType.TEST)


def test_the_submission_is_that_of_the_record(row: Any) -> None:
    stored = json.loads(get_state_backend().get(build_scope(row), RECORD_KEY))
    assert read_submission(find_task(row.id)).idempotency_key == stored["idempotency_key"]


@pytest.mark.parametrize("damaged", ["{", "[]", "null", '{"task_id": null}', '{"task_id": []}', '"text"'])
def test_a_damaged_record_is_none(row: Any, damaged: str) -> None:
    get_state_backend().set(build_scope(row), RECORD_KEY, damaged)
    assert read_submission(find_task(row.id)) is None


def test_a_task_without_a_record_has_none(row: Any) -> None:
    get_state_backend().delete(build_scope(row), RECORD_KEY)
    assert read_submission(find_task(row.id)) is None


@pytest.mark.parametrize("state", ["deferred", "awaiting_input"])
def test_a_task_that_just_left_its_worker_is_to_wait(row: Any, state: str) -> None:
    # min_heartbeat_interval is 0 here: a second for the worker to leave, one for the scheduler to notice.
    put(row, state, seconds_ago=0.0)
    assert 0 < measure_resume_delay(find_task(row.id)) <= 2
    put(row, state)
    assert measure_resume_delay(find_task(row.id)) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"state": "scheduled"},
        {"state": "awaiting_input"},
        {"state": "success"},
        {"state": None},
        {"state": "deferred", "seconds_ago": 30.0},
    ],
    ids=str,
)
def test_a_task_that_has_changed_meanwhile_does_not_resume(row: Any, change: dict[str, Any]) -> None:
    found = find_task(row.id)
    put(row, **change)
    before = read(row)
    assert resume(found) is False
    after = read(row)
    assert (after.state, after.next_kwargs, after.trigger_id, after.updated_at) == (
        *(before.state, before.next_kwargs, before.trigger_id, before.updated_at),
    )


def test_a_task_that_began_another_try_meanwhile_does_not_resume(row: Any) -> None:
    found = find_task(row.id)
    present = begin_next_try(row)
    put(present, "deferred")
    assert resume(found) is False
    assert read_states(present) == ["deferred"]


def test_of_two_servers_only_one_resumes_a_task(row: Any) -> None:
    servers = 4
    are_ready = threading.Barrier(servers)

    def resume_at_once(found: Any) -> bool:
        are_ready.wait(20)
        return resume(found)

    with ThreadPoolExecutor(servers) as threads:
        for _ in range(5):
            put(row, "deferred")
            resumed = list(threads.map(resume_at_once, [find_task(row.id) for _ in range(servers)]))
            assert sorted(resumed) == [False, False, False, True]
            assert read_states(row) == ["scheduled"]
