"""What Airflow stores of a task's rendered fields, and shows on its page."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.sdk.execution_time import task_runner
from pytest_mock import MockerFixture

SCRIPT = '#sandbox {"steps": 1, "step_seconds": 0.1}'
TEMPLATED = SCRIPT + "\n{{ run_id }}"
ONE = f"ShinzoTaskOperator(task_id='agent', message={TEMPLATED!r}, priority=3, deferrable=True)"
MAPPED = (
    f"ShinzoTaskOperator.partial(task_id='agent', deferrable=True).expand(message=[{SCRIPT!r}], priority=[3])"
)
DECORATED = f"@task.shinzo(priority=3)\ndef agent():\n    return {SCRIPT!r}\n\nagent()"
SET = {"conn_id", "message", "priority"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [(ONE, SET), (MAPPED, SET), (DECORATED, {"conn_id", "priority", "op_args", "op_kwargs"})],
    ids=["operator", "mapped", "decorated"],
)
def test_only_the_fields_that_are_set_are_stored(run_dag: Any, source: str, expected: set[str]) -> None:
    run = run_dag(source)
    assert run.state == "success"
    task_instance = run._task_instance("agent", 0 if source == MAPPED else -1)
    fields = RenderedTaskInstanceFields.get_templated_fields(task_instance) or {}
    assert set(fields) == expected
    assert fields["priority"] == 3
    if source == ONE:
        assert fields["message"].endswith(run.dag_run.run_id)


def test_an_execution_that_resumes_stores_none(run_dag: Any, mocker: MockerFixture) -> None:
    stored = mocker.spy(task_runner, "_serialize_rendered_fields")
    run = run_dag(ONE.replace("0.1", "0.3"))
    assert run.state == "success"
    first, resumed = stored.spy_return_list
    assert set(first) == SET
    assert resumed == {}


def test_a_field_that_is_set_later_is_rendered(run_dag: Any) -> None:
    run = run_dag(f"{ONE.replace('priority=3, ', '')}.agent_id = 'agt_' + '{{{{ 1 + 1 }}}}'")
    assert run.state == "success"
    fields = RenderedTaskInstanceFields.get_templated_fields(run._task_instance("agent", -1)) or {}
    assert fields["agent_id"] == "agt_2"
