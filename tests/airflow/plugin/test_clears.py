"""What a clear over REST leaves of a task's state and of its agent task: real rows, a real API server."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.models.taskinstance import TaskInstance
from airflow.state import get_state_backend
from airflow.utils.session import create_session
from pytest_mock import MockerFixture

from airflow_agent_tasks.airflow_compat.ended_tasks import REPLACED, EndedTask, read_record
from airflow_agent_tasks.airflow_compat.version_compat import AIRFLOW_V_3_4_PLUS
from airflow_agent_tasks.plugin import orphan_stopper
from lab.cluster.airflow_api import AirflowApi
from tests.airflow.conftest import LONG_SCRIPT, finish_stops

START = f"ShinzoTaskOperator.partial(task_id='agent', message={LONG_SCRIPT!r}, wait_for_completion=False)"
OF_OTHERS = "a_key_of_someone_else"


@pytest.fixture(params=["one", "mapped"])
def started(request: Any, run_dag: Any, api_server: str) -> Any:
    """A task instance whose agent task runs, mapped or not, with a state of someone else's beside it."""
    if request.param == "mapped":
        row = run_dag(f"{START}.expand(priority=[1, 2])")._task_instance("agent", 1)
    else:
        row = run_dag(START.replace(".partial", ""))._task_instance("agent", -1)
    ended = EndedTask.from_row(row, "success")
    get_state_backend().set(ended.scope, OF_OTHERS, '"kept?"')
    return ended


def clear(api_server: str, ended: EndedTask, **body: Any) -> None:
    scope = ended.scope
    given = {
        "dry_run": False,
        "only_failed": False,
        "dag_run_id": scope.run_id,
        "task_ids": ["agent"],
        **body,
    }
    AirflowApi(api_server).request("POST", f"/dags/{scope.dag_id}/clearTaskInstances", body=given)


def test_a_clear_keeps_the_record_and_nothing_else_that_airflow_discards(
    started: Any, api_server: str
) -> None:
    before = read_record(started)
    assert before
    clear(api_server, started)
    assert read_record(started) == before
    is_kept = get_state_backend().get(started.scope, OF_OTHERS) is not None
    assert is_kept is not AIRFLOW_V_3_4_PLUS


@pytest.mark.skipif(not AIRFLOW_V_3_4_PLUS, reason="only Airflow 3.4 and later replaces tasks")
def test_the_agent_task_of_a_task_that_a_clear_replaces_is_stopped(
    started: Any, api_server: str, agent_task_sandbox: Any
) -> None:
    with create_session() as session:
        row = session.get(TaskInstance, started.task_instance_id)
        row.archive(reason=REPLACED, session=session)
    finish_stops()
    record = read_record(started)
    assert record
    stopped = [task["task_id"] for task in agent_task_sandbox.tasks() if task["status"] == "cancelled"]
    assert stopped == [record.task_id]


@pytest.mark.skipif(not AIRFLOW_V_3_4_PLUS, reason="only Airflow 3.4 and later replaces tasks")
def test_a_task_that_goes_on_after_all_keeps_its_agent_task(
    started: Any, api_server: str, agent_task_sandbox: Any, mocker: MockerFixture, caplog: Any
) -> None:
    mocker.patch.object(orphan_stopper, "SECONDS_TO_COMMIT", 0.3)
    caplog.set_level("WARNING", logger=orphan_stopper.__name__)
    with create_session() as session:
        session.get(TaskInstance, started.task_instance_id).archive(reason=REPLACED, session=session)
        session.rollback()
    # The same session may commit something else later.
    finish_stops()
    assert {task["status"] for task in agent_task_sandbox.tasks()} == {"running"}
    assert caplog.messages == []


@pytest.mark.skipif(not AIRFLOW_V_3_4_PLUS, reason="only Airflow 3.4 and later replaces tasks")
def test_an_agent_task_is_not_stopped_before_its_replacement_is_committed(
    started: Any, api_server: str, agent_task_sandbox: Any
) -> None:
    with create_session() as session:
        session.get(TaskInstance, started.task_instance_id).archive(reason=REPLACED, session=session)
        with session.begin_nested():  # as Airflow does when it maps the task anew
            session.flush()
        finish_stops()
        assert {task["status"] for task in agent_task_sandbox.tasks()} == {"running"}
    finish_stops()
    assert "cancelled" in {task["status"] for task in agent_task_sandbox.tasks()}


def test_the_record_is_removed_where_its_key_is_named(started: Any) -> None:
    get_state_backend().delete(started.scope, "agent_task")
    assert read_record(started) is None
