"""What an agent task has used, read from undocumented and hostile replies."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import AgentTask, Progress, TaskState
from airflow_agent_tasks.services.http import Response
from airflow_agent_tasks.services.state_fields import MAX_USAGE_BYTES, read_state
from airflow_agent_tasks.services.usage import (
    BUDGET_NAMES,
    MAX_ENTRIES,
    describe_usage,
    find_spent,
    list_passed,
    list_unreported,
    read_usage,
)


def build_task(usage: dict[str, Any] | None, steps: int | None = None) -> AgentTask:
    progress = None if steps is None else Progress(steps_completed=steps)
    return AgentTask("shinzo", "tsk_1", TaskState.RUNNING, usage=usage, progress=progress)


@pytest.mark.parametrize(
    ("reply", "usage"),
    [
        ({}, None),
        ({"usage": None, "cost": None}, None),
        ({"usage": {"steps": 3, "gpu_hours": 0.5}}, {"steps": 3, "gpu_hours": 0.5}),
        ({"usage": {"tokens": {"input": 5, "output": 7}}}, {"tokens": {"input": 5, "output": 7}}),
        ({"cost": 0.25, "tokens": 40}, {"cost": 0.25, "tokens": 40}),
        ({"usage": {"cost": 1}, "cost": 2}, {"cost": 1}),
        ({"usage": 7}, {"usage": 7}),
        ({"usage": {"plan": "pro\nlevel", "list": [1], "nested": {"a": {"b": 1}}}}, None),
    ],
    ids=str,
)
def test_usage_is_kept_as_it_is_reported(reply: dict[str, Any], usage: dict[str, Any] | None) -> None:
    if "usage" in reply and isinstance(reply["usage"], dict) and "plan" in reply["usage"]:
        usage = {"plan": "pro level", "nested": {}}
    assert read_usage(reply) == usage


def test_usage_is_bounded() -> None:
    usage = read_usage({"usage": {f"k{number}" * 200: "x" * 5_000 for number in range(500)}})
    assert usage is not None
    assert len(usage) <= MAX_ENTRIES
    assert len(json.dumps(usage)) < 10_000
    assert len(describe_usage(usage)) <= 500


@pytest.mark.parametrize(
    ("usage", "name", "spent"),
    [
        ({"cost": 1.5}, "cost", 1.5),
        ({"cost": "1.50"}, "cost", 1.5),
        ({"cost": {"amount": 2, "currency": "EUR"}}, "cost", 2.0),
        ({"total_cost": 3}, "cost", 3.0),
        ({"tokens": {"input": 5, "output": 7}}, "tokens", 12.0),
        ({"input_tokens": 5, "output_tokens": 7}, "tokens", 12.0),
        ({"seconds": 60}, "seconds", 60.0),
        ({"steps": 4}, "steps", 4.0),
        ({"cost": True}, "cost", None),
        ({"cost": "much"}, "cost", None),
        ({"cost": "nan"}, "cost", None),
        ({"cost": "1e999"}, "cost", None),
        ({}, "tokens", None),
    ],
    ids=str,
)
def test_a_limit_is_compared_with_the_reported_number(
    usage: dict[str, Any], name: str, spent: float | None
) -> None:
    assert find_spent(build_task(usage), name) == spent


def test_steps_come_from_the_progress_if_the_usage_has_none() -> None:
    assert find_spent(build_task(None, steps=6), "steps") == 6.0
    assert find_spent(build_task({"steps": 2}, steps=6), "steps") == 2.0


def test_only_what_is_above_its_limit_has_passed_the_budget() -> None:
    task = build_task({"cost": 1.5, "seconds": 10})
    assert list_passed(task, {"cost": 1, "seconds": 10, "tokens": 5}) == ["cost 1.5 of 1"]
    assert list_unreported(task, dict.fromkeys(BUDGET_NAMES, 1.0)) == ["steps", "tokens"]


def test_a_triggerer_reads_the_usage_without_the_rest_of_the_body() -> None:
    body = {"status": "running", "usage": {"cost": 1, "tokens": {"input": 2}}, "result": "x" * 1_000_000}
    assert read_state(Response(200, body=json.dumps(body).encode()))["usage"] == body["usage"]


def test_a_triggerer_does_not_read_a_huge_usage() -> None:
    body = {"status": "running", "usage": {"notes": "x" * MAX_USAGE_BYTES}, "cost": 2}
    state = read_state(Response(200, body=json.dumps(body).encode()))
    assert state["usage"] is None
    assert state["cost"] == 2


def test_usage_is_one_line_for_the_log() -> None:
    usage = {"steps": 12, "cost": 0.42, "tokens": {"input": 5, "output": 7}, "plan": "pro"}
    assert describe_usage(usage) == "steps 12, cost 0.42, tokens (input 5, output 7), plan pro"
