"""
The door to Airflow's private APIs: whether the installed Airflow still has what this package uses.

A failure here after an upgrade of Airflow means that a part has moved, and that a module of
``airflow_agent_tasks/airflow_compat`` must follow it.
"""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from airflow.jobs import triggerer_job_runner
from airflow.jobs.job import Job
from airflow.models.dagrun import DagRun
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.sdk.execution_time import comms, hitl, task_runner
from airflow.serialization.enums import Encoding
from pytest_mock import MockerFixture

from airflow_agent_tasks.airflow_compat.required_action import HITLUser
from airflow_agent_tasks.airflow_compat.task_states import aread_state, is_database_row
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator
from airflow_agent_tasks.plugin import listener
from airflow_agent_tasks.services.http import parse_json


def test_a_server_hands_rows_to_a_listener_and_a_worker_does_not() -> None:
    rows = (TaskInstance, DagRun, Job)
    assert [is_database_row(row.__new__(row)) for row in rows] == [True, True, True]
    others = (task_runner.RuntimeTaskInstance, task_runner.TaskRunnerMarker)
    assert [is_database_row(other.__new__(other)) for other in others] == [False, False]


@pytest.mark.parametrize("operator", [LightconeTaskOperator, ShinzoTaskOperator])
def test_the_listener_finds_what_removes_the_record_of_an_operator(operator: Any) -> None:
    start = "instruction" if operator is LightconeTaskOperator else "message"
    assert isinstance(operator(task_id="agent", **{start: "Look."}), listener.KeepsRecord)


def test_a_triggerers_supervisor_takes_the_question_for_a_state(mocker: MockerFixture) -> None:
    union = get_args(triggerer_job_runner.ToTriggerSupervisor)[0]
    assert comms.GetTaskStates in get_args(union)
    assert "SUPERVISOR_COMMS" in task_runner.__annotations__
    result = comms.TaskStatesResult(task_states={"r": {"t_2": "skipped"}})
    channel = SimpleNamespace(asend=mocker.AsyncMock(return_value=result))
    mocker.patch.object(task_runner, "SUPERVISOR_COMMS", channel, create=True)
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=2)
    assert asyncio.run(aread_state(ti)) == "skipped"


def test_the_form_has_the_columns_that_a_question_is_written_to() -> None:
    columns = {"subject", "body", "options", "params", "assignees", "defaults", "multiple", "created_at"}
    answer = {"responded_at", "responded_by", "chosen_options", "params_input"}
    assert columns | answer <= set(HITLDetail.__mapper__.columns.keys())


def test_a_user_who_may_answer_is_described_as_airflow_does() -> None:
    assert HITLUser.__annotations__.keys() == hitl.HITLUser.__annotations__.keys()


def test_the_keys_that_airflows_serializer_reserves_are_renamed_in_results() -> None:
    from airflow.sdk import serde

    keys = {Encoding.TYPE.value, Encoding.VAR.value, serde.CLASSNAME, serde.VERSION, serde.DATA}
    assert all(list(parse_json(json.dumps({key: 1}))) == [f"_{key}"] for key in keys)
