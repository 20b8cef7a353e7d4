"""The tree of errors: drawn whole, and carried whole from one process to another."""

from __future__ import annotations

import pickle

import pytest

from airflow_agent_tasks import errors
from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.errors import (
    AgentTaskError,
    AgentTaskOutcomeError,
    AgentTaskRateLimitedError,
    AgentTaskReplyError,
)

EVERY_ERROR = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AgentTaskError)
]


@pytest.mark.parametrize("kind", EVERY_ERROR)
def test_every_error_is_drawn_in_the_tree_and_survives_another_process(kind: type[AgentTaskError]) -> None:
    assert kind.__name__ in str(errors.__doc__)
    again = pickle.loads(pickle.dumps(kind("What happened.")))  # noqa: S301
    assert type(again) is kind
    assert str(again) == "What happened."
    assert not (again.is_final and again.is_transient)


def test_an_error_carries_its_details_into_another_process() -> None:
    task = AgentTask("lightcone", "a", TaskState.FAILED, exit_code=3)
    outcome = AgentTaskOutcomeError("It failed.", task=task, is_final=True)
    limited = AgentTaskRateLimitedError("Too many.", status=429, retry_after=2.5)
    outcome, limited = pickle.loads(pickle.dumps((outcome, limited)))  # noqa: S301
    assert (outcome.task, outcome.is_final) == (task, True)
    assert (limited.status, limited.retry_after) == (429, 2.5)


def test_an_unreadable_response_is_not_transient_by_default() -> None:
    assert not AgentTaskReplyError("Too large.").is_transient
