"""The agent task as plain JSON and as one line of text."""

from __future__ import annotations

import json

import pytest

from airflow_agent_tasks.agent_task import AgentTask, Progress, StartedTask, TaskState

FULL_TASK = AgentTask(
    service="shinzo",
    task_id="tsk_1",
    agent_id="agt_1",
    status=TaskState.AWAITING_INPUT,
    remote_status="awaiting_input",
    question="Which?",
    progress=Progress("Reading", 1, 2),
    usage={"steps": 1, "cost": 0.5},
    created_at="a",
    started_at="b",
    reused=True,
)


def test_an_agent_task_is_plain_json_with_the_promised_keys() -> None:
    assert json.loads(json.dumps(FULL_TASK.to_json())) == {
        "service": "shinzo",
        "task_id": "tsk_1",
        "agent_id": "agt_1",
        "status": "awaiting_input",
        "remote_status": "awaiting_input",
        "exit_code": None,
        "result": None,
        "question": "Which?",
        "progress": {"current_step": "Reading", "steps_completed": 1, "total_steps": 2},
        "usage": {"steps": 1, "cost": 0.5},
        "created_at": "a",
        "started_at": "b",
        "completed_at": None,
    }
    assert type(FULL_TASK.to_json()["status"]) is str


def test_an_agent_task_without_progress_has_none() -> None:
    assert AgentTask("lightcone", "a", TaskState.QUEUED).to_json()["progress"] is None


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (FULL_TASK, "shinzo agent task tsk_1 (status awaiting_input)"),
        (AgentTask("lightcone", "a", TaskState.QUEUED), "lightcone agent task a (status queued)"),
        (
            AgentTask("lightcone", "a", TaskState.FAILED, "completed", exit_code=3),
            "lightcone agent task a (status failed, the service says 'completed', exit code 3)",
        ),
        (
            AgentTask("lightcone", "a\nb", TaskState.COMPLETED, exit_code=0),
            "lightcone agent task a b (status completed, exit code 0)",
        ),
    ],
)
def test_an_agent_task_describes_itself_in_one_line(task: AgentTask, text: str) -> None:
    assert str(task) == text
    assert len(str(AgentTask("lightcone", "a" * 1_000, TaskState.QUEUED))) < 300


@pytest.mark.parametrize("state", TaskState)
def test_only_completed_failed_and_cancelled_are_ends(state: TaskState) -> None:
    ends = {"completed", "failed", "cancelled"}
    assert AgentTask("lightcone", "a", state).is_terminal is (state.value in ends)
    assert str(state) == state.value


def test_a_started_task_crosses_to_a_trigger_and_back_as_keywords() -> None:
    started = StartedTask("tsk_1", None, 7.5)
    assert StartedTask(**started.to_kwargs()) == started
