"""What is left of a task's state when it is cleared over REST: real rows, a real API server."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.state import get_state_backend

from airflow_agent_tasks.airflow_compat.ended_tasks import EndedTask, read_record
from airflow_agent_tasks.airflow_compat.version_compat import AIRFLOW_V_3_4_PLUS
from lab.cluster.airflow_api import AirflowApi
from tests.airflow.conftest import LONG_SCRIPT

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


def test_the_record_is_removed_where_its_key_is_named(started: Any) -> None:
    get_state_backend().delete(started.scope, "agent_task")
    assert read_record(started) is None
