"""What the executions of a task ask of Airflow: each is a request to the API server, from every task."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk.execution_time.supervisor import InProcessTestSupervisor
from pytest_mock import MockerFixture

#: Its first status check finds the agent still at work.
WORKS = {"steps": 2, "step_seconds": 0.5, "result": {"answer": 42}}
START = ["SetRenderedFields", "GetTaskStateStore", "SetTaskStateStore", "SetTaskStateStore"]
SHINZO = [
    [*START, "_link_AgentTaskLink", "task_id", "status", "progress", "DeferTask"],
    ["status", "return_value", "SucceedTask", "SetTaskStateStore"],
]
LIGHTCONE = [
    [*START, "_link_AgentTaskLink", "task_id", "status", "DeferTask"],
    ["status", "exit_code", "return_value", "SucceedTask", "SetTaskStateStore"],
]
#: Requests that read a connection, which is in the environment here.
CONNECTION = ("GetConnection", "MaskSecret")


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("ShinzoTaskOperator(message=", SHINZO),
        ("LightconeTaskOperator(instruction=", LIGHTCONE),
    ],
    ids=["shinzo", "lightcone"],
)
def test_each_execution_of_a_deferred_task_asks_only_this(
    run_dag: Any, mocker: MockerFixture, operator: str, expected: list[list[str]]
) -> None:
    handled = mocker.spy(InProcessTestSupervisor, "_handle_request")
    run = run_dag(f"{operator}'#sandbox {json.dumps(WORKS)}', task_id='agent', deferrable=True)")
    assert run.state == "success"
    requests = [describe(call.args[1]) for call in handled.call_args_list]
    requests = [name for name in requests if name not in CONNECTION]
    first = requests.index("DeferTask") + 1
    # Only in dag.test(), where the trigger does not know its try.
    requests.pop(first)
    assert [requests[:first], requests[first:]] == expected


def describe(message: Any) -> str:
    """Return the key of an XCom, or the name of another request."""
    name = type(message).__name__
    return message.key if name == "SetXCom" else name
