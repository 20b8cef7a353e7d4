"""What a failure says: what the agent returned, and whether and why Airflow tries again."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.errors import (
    AgentTaskArgumentError,
    AgentTaskError,
    AgentTaskUnavailableError,
    AgentTaskUncertainError,
)
from airflow_agent_tasks.lifecycle.outcome import build_failure, describe_retry


def end(state: TaskState, result: Any = None, exit_code: int | None = None) -> AgentTask:
    return AgentTask("shinzo", "tsk_1", state, result=result, exit_code=exit_code)


@pytest.mark.parametrize("state", [TaskState.FAILED, TaskState.CANCELLED])
@pytest.mark.parametrize(
    ("result", "said"),
    [
        (None, ""),
        ("No such\npage", " The agent said: 'No such page'."),
        ({"why": "no money"}, """ The agent said: '{"why": "no money"}'."""),
        ("::group::" + "x" * 5_000, " The agent said: ':: group::xxx"),
    ],
)
def test_a_failure_says_what_the_agent_said_on_one_line(state: TaskState, result: Any, said: str) -> None:
    text = str(build_failure(end(state, result), is_final=False))
    assert said in text
    assert "\n" not in text
    assert len(text) < 2_500


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (AgentTaskUnavailableError("down"), "Airflow retries the task: try 2 of 3 is next."),
        (AgentTaskArgumentError("wrong"), "does not retry the task: a retry would fail in the same way."),
        (AgentTaskUncertainError("lost"), "does not retry the task: the request may have been carried out"),
        (
            build_failure(end(TaskState.FAILED, exit_code=3), is_final=True),
            "does not retry the task: exit code 3 is one of no_retry_on_exit_code.",
        ),
        (
            build_failure(end(TaskState.CANCELLED, exit_code=3), is_final=True),
            "does not retry the task: exit code 3 is one of no_retry_on_exit_code.",
        ),
    ],
)
def test_it_is_said_whether_and_why_airflow_tries_again(error: AgentTaskError, note: str) -> None:
    assert note in describe_retry(error, try_number=1, max_tries=2)


def test_the_last_try_is_said_to_be_the_last() -> None:
    error = AgentTaskUnavailableError("down")
    assert describe_retry(error, try_number=3, max_tries=2).endswith("this was try 3 of 3.")
