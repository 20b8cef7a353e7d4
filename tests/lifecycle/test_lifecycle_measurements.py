"""What is measured about an agent task, as pure values and over simulated lives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.errors import AgentTaskError, AgentTaskRateLimitedError, AgentTaskTimeoutError
from airflow_agent_tasks.lifecycle.measurements import (
    Count,
    Measurement,
    Time,
    measure_end,
    measure_failure,
    measure_start,
    measure_stop,
    parse_time,
    read_usage_numbers,
)
from airflow_agent_tasks.lifecycle.question_log import REPLY_ID, Questions, Reply, Stage
from tests.service_samples import SHINZO
from tests.simulated.script import Script
from tests.simulated.world import World

NOW = 1_700_000_100.0
TASK = AgentTask("shinzo", "tsk_1", TaskState.COMPLETED)
TIMES = {
    "created_at": "2023-11-14T22:13:20Z",
    "started_at": "2023-11-14T22:13:25.5Z",
    "completed_at": "2023-11-14T23:14:30.25+01:00",
}


def measure(task: AgentTask = TASK, questions: Questions | None = None) -> list[Measurement]:
    return list(measure_end(task, questions or Questions(), submitted_at=NOW - 30, now=NOW))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2023-11-14T22:13:20Z", 1_700_000_000.0),
        ("2023-11-14T22:13:20", 1_700_000_000.0),
        ("2023-11-14 23:13:20+01:00", 1_700_000_000.0),
        ("2023-11-14T22:13:20.123456789Z", 1_700_000_000.123456789),
        ("2023-11-14T22:13:20.5-00:30", 1_700_001_800.5),
        ("yesterday", None),
        ("", None),
        (None, None),
        (1_700_000_000, None),
        ("2023-11-14T22:13:20." + "1" * 40, None),
    ],
)
def test_a_timestamp_of_a_service_is_read_or_left_out(text: Any, seconds: float | None) -> None:
    assert parse_time(text) == seconds


def test_the_times_are_the_services_own_where_it_gives_both_ends() -> None:
    assert measure(replace(TASK, **TIMES)) == [
        Count("finished", tag=("state", "completed")),
        Time("queued_duration", NOW - 100, NOW - 94.5),
        Time("running_duration", NOW - 94.5, NOW - 29.75),
    ]


def test_without_them_the_running_time_is_what_this_package_saw() -> None:
    for left_out in ({}, {"started_at": TIMES["started_at"]}, {"completed_at": TIMES["completed_at"]}):
        assert measure(replace(TASK, **left_out))[1:] == [Time("running_duration", NOW - 30, NOW)]


def test_an_impossible_period_is_left_out() -> None:
    turned = replace(TASK, **{**TIMES, "created_at": "2023-11-15T22:13:20Z", "completed_at": "2300-01-01"})
    assert measure(turned) == [Count("finished", tag=("state", "completed"))]


def test_the_time_until_someone_answered_is_measured_but_not_that_of_an_automatic_reply() -> None:
    asking = AgentTask("shinzo", "tsk_1", TaskState.AWAITING_INPUT, question="Which?")
    questions = Questions()
    for number, replier in enumerate((REPLY_ID, "user-7", None)):
        asked_at = NOW - 60 + 20 * number
        questions = questions.add(asking, asked_at)
        last = questions.require_last()
        reply = Reply("Send", "That.", {"id": replier, "name": "x"}, "now") if replier else None
        answered = last.answer(reply, asked_at + 8) if reply else last.move(Stage.DROPPED, asked_at + 8)
        questions = questions.put(answered)
    waits = [one for one in measure(questions=questions) if one.name == "awaiting_input_duration"]
    assert waits == [
        Time("awaiting_input_duration", NOW - 40, NOW - 32),
        Time("awaiting_input_duration", NOW - 20, NOW - 12),
    ]


def test_usage_becomes_numbers_by_a_fixed_set_of_names() -> None:
    usage = {"cost": 1.5, "tokens": {"input": 5, "output": 7}, "steps": True, "seconds": -1, "x" * 50: 3}
    task = replace(TASK, usage=usage)
    assert read_usage_numbers(task) == {"cost": 1.5, "tokens": 12}
    assert Count("usage.cost", 1.5) in measure(task)
    assert read_usage_numbers(replace(TASK, usage={"cost": 10**400, "tokens": 1e13})) == {}
    assert read_usage_numbers(None) == {}


def test_a_start_that_found_an_earlier_agent_task_attaches() -> None:
    assert measure_start(TASK) == Count("submitted")
    assert measure_start(replace(TASK, reused=True)) == Count("attached")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("cancelled", [Count("stops"), Count("finished", tag=("state", "cancelled"))]),
        ("paused", [Count("stops"), Count("finished", tag=("state", "paused"))]),
        ("failed", [Count("finished", tag=("state", "failed"))]),
        ("completed", []),
        ("running", []),
    ],
)
def test_a_stop_counts_if_it_stopped_something(state: str, expected: list[Measurement]) -> None:
    before = replace(TASK, usage={"cost": 2})
    usage = [Count("usage.cost", 2.0)] if expected else []
    assert list(measure_stop(replace(TASK, status=TaskState(state)), before)) == [*expected, *usage]
    assert list(measure_stop(replace(TASK, status=TaskState(state)), None)) == expected


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (AgentTaskTimeoutError("x"), "timeout"),
        (AgentTaskRateLimitedError("x"), "rate_limited"),
        (AgentTaskError("x"), "other"),
    ],
)
def test_the_kind_of_a_failure_is_its_class(error: AgentTaskError, kind: str) -> None:
    assert measure_failure(error) == Count("failed", tag=("kind", kind))


def list_counts(world: World) -> list[str]:
    return [one.name for one in world.journal if isinstance(one, Count)]


def test_a_life_counts_one_start_and_each_question_once() -> None:
    world = World(Script(SHINZO, questions=("Which?",))).live()
    assert world.state == "success"
    assert list_counts(world) == ["submitted", "questions"]
    # Reported once Airflow has the result.
    assert world.execution.measurements[0] == Count("finished", tag=("state", "completed"))
