"""A try that finds a damaged or a foreign record: it attaches where an agent task is named, or it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse

from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY
from tests.airflow.worker.life import Life

BOTH = pytest.mark.parametrize("service", ["lightcone", "shinzo"])
CLEARED = [("max_tries", 0), ("max_tries", -1)]
ODD: list[Any] = [None, 0, -1, 1e300, math.nan, "", "soon", [], {}, [None], {"a": []}, True]
FIELDS = ["idempotency_key", "try_number", "max_tries", "submitted_at", "questions"]
#: Each field lost or odd. Another number of tries is that of a clear.
DAMAGES = [(name, value) for name in FIELDS for value in [..., *ODD] if (name, value) not in CLEARED]
FOREIGN: list[Any] = ["text", 7, [], ["tsk_1"], {}, {"state": "running"}, {"task_id": ""}, {"task_id": {}}]


@pytest.fixture
def life(agent_task_sandbox: Any, service: str) -> Life:
    return Life(service)


@pytest.fixture
def states(agent_task_sandbox: Any) -> Callable[[], list[str]]:
    return lambda: [task["status"] for task in agent_task_sandbox.tasks()]


@pytest.fixture
def count(agent_task_sandbox: Any) -> Callable[[], int]:
    return lambda: len(agent_task_sandbox.tasks())


@BOTH
@pytest.mark.parametrize(("name", "value"), DAMAGES, ids=repr)
def test_a_try_attaches_whatever_is_damaged_beside_the_id(
    life: Life, count: Callable[[], int], name: str, value: Any
) -> None:
    first = life.run_try()
    record = life.store[RECORD_KEY]
    life.store[RECORD_KEY] = {
        key: value if key == name else kept for key, kept in record.items() if (key, value) != (name, ...)
    }
    assert life.run_try().task_id == first.task_id
    assert count() == 1


@BOTH
@pytest.mark.parametrize("value", FOREIGN, ids=json.dumps)
def test_a_try_starts_nothing_beside_what_it_cannot_read(
    life: Life, count: Callable[[], int], value: Any
) -> None:
    life.store[RECORD_KEY] = value
    with pytest.raises(AgentTaskError, match="Search the service for it, and stop it") as caught:
        life.run_try()
    assert caught.value.is_final
    assert (count(), life.store[RECORD_KEY]) == (0, value)


@BOTH
@pytest.mark.parametrize("task_id", ["..", ".", "x" * 300, "\n"])
def test_an_id_that_cannot_be_asked_for_starts_nothing_either(
    life: Life, count: Callable[[], int], task_id: str
) -> None:
    life.run_try()
    life.store[RECORD_KEY] = {**life.store[RECORD_KEY], "task_id": task_id}
    with pytest.raises(AgentTaskError, match=r"task_id|Search the service for it") as caught:
        life.run_try()
    assert caught.value.is_final
    assert count() == 1


@BOTH
def test_a_store_that_knows_the_try_no_more_is_explained(life: Life, caplog: Any) -> None:
    caplog.set_level("INFO", "attach")
    detail = {"status_code": 404, "message": "Not Found", "detail": {"reason": "not_found"}}

    class Cleared(type(life.store)):  # type: ignore[misc]
        """A store whose try is cleared while its start is on the way."""

        def set(self, key: str, value: Any) -> None:
            if value["task_id"]:
                raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))
            super().set(key, value)

    life.store = Cleared()
    life.run_try()
    fault = "as far as Airflow knows, this try has ended, because someone cleared or ended the task"
    assert fault in caplog.text
    assert "reason" not in caplog.text


@pytest.mark.parametrize("service", ["shinzo"])
@pytest.mark.parametrize("value", [..., None, 5, "", " ", [], {}], ids=repr)
@pytest.mark.parametrize("is_cleared", [False, True], ids=["retried", "cleared"])
def test_an_agent_that_the_record_has_lost_is_not_taken_for_a_task_that_is_gone(
    life: Life, count: Callable[[], int], states: Any, value: Any, is_cleared: bool
) -> None:
    life.agent_id = "agt_other"
    first = life.run_try()
    record = {key: kept for key, kept in life.store[RECORD_KEY].items() if key != "agent_id"}
    life.store[RECORD_KEY] = record if value is ... else {**record, "agent_id": value}
    # The DAG still says which agent it is.
    assert life.run_try().task_id == first.task_id
    # Now it says another one.
    life.agent_id = "agt_third"
    if is_cleared:
        life.clear()
    with pytest.raises(
        AgentTaskError, match="no longer names its agent, so the agent task may still be running"
    ) as caught:
        life.run_try()
    assert caught.value.is_final
    assert (count(), states()) == (1, ["queued"]) or states() == ["running"]


@BOTH
@pytest.mark.parametrize("moment", [1e11, 253_402_300_799.0])
def test_a_start_in_the_future_counts_as_one_of_now(life: Life, moment: float) -> None:
    life.run_try()
    life.store[RECORD_KEY] = {**life.store[RECORD_KEY], "submitted_at": moment}
    life.run_try()
    assert life.started_at < moment / 10
