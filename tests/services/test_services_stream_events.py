"""What the events of a stream mean, in the forms that services use, and in those that none should."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import Progress, TaskState
from airflow_agent_tasks.services.stream_events import MAX_DELTA, StreamEvent, read_event
from airflow_agent_tasks.text import shorten
from tests.service_samples import DIALECTS
from tests.services.test_services_random_replies import SCALARS, TEXTS, assert_can_be_stored, draw_value

LIGHTCONE = DIALECTS["lightcone"]
IMAGE = "iVBORw0KGgo" * 40
RUNNING = {"type": "progress_update", "task_id": "t-1", "status": "running"}
COMPLETION = {"type": "completion", "task_id": "t-1", "status": "completed", "exit_code": 0}

LINES: dict[str, tuple[dict[str, Any], str | None]] = {
    "a step": ({"current_step": "Reading", "steps_completed": 2, "total_steps": 5}, "Step 2 of 5: Reading"),
    "a step with a percentage": (
        {"current_step": "Reading", "steps_completed": 2, "total_steps": 5, "percent": 40},
        "Step 2 of 5: Reading (40 %)",
    ),
    "a step without a total": ({"current_step": "Reading", "steps_completed": 2}, "Step 2: Reading"),
    "a step without numbers": ({"current_step": "Reading"}, "Reading"),
    "numbers without a step": ({"steps_completed": 2, "total_steps": 5}, "Step 2 of 5"),
    "numbers and a message": (
        {"steps_completed": 2, "total_steps": 5, "message": "Reading"},
        "Step 2 of 5: Reading",
    ),
    "progress as an object": (
        {"progress": {"current_step": "Reading", "steps_completed": 0, "total_steps": 5, "percent": 3.4}},
        "Step 0 of 5: Reading (3 %)",
    ),
    "a percentage only": ({"percent": 7}, "7 %"),
    "a message": ({"message": "Hello\nthere"}, "Hello there"),
    "a message in an object": ({"type": "message", "content": {"text": "Hello"}}, "Hello"),
    "a status": ({"status": "running"}, "Status: running"),
    "nothing": ({}, None),
    "a delta": ({"delta": "wor", "current_step": "Reading"}, None),
    "a delta without text": ({"delta": {"type": "input_json", "partial": "{"}}, None),
    "a tool": ({"type": "tool_call", "tool": "search"}, "Tool: search"),
    "a tool with arguments": (
        {"type": "tool_call", "name": "search", "arguments": {"query": "a b", "n": 5, "deep": [1]}},
        'Tool: search(query="a b", n=5, deep=…)',
    ),
    "a tool with many arguments": (
        {"tool_name": "fill", "input": dict.fromkeys("abcdefg", 1)},
        "Tool: fill(a=1, b=1, c=1, d=1, e=1, …)",
    ),
    "a tool with arguments as text": (
        {"type": "x", "tool_call": {"function": {"name": "search", "arguments": '{"query": 1}'}}},
        'Tool: search({"query": 1})',
    ),
    "a tool in an object": (
        {"type": "tool_call", "tool": {"name": "click", "args": {"x": 1}}},
        "Tool: click(x=1)",
    ),
    "an action": ({"type": "browser_action", "action": "scroll"}, "Tool: scroll"),
    "a tool with an address": (
        {"type": "tool_call", "name": "open", "arguments": {"url": "https://shop.example/a?b=1"}},
        'Tool: open(url="https://shop.example/a?b=1")',
    ),
    "a tool with a quotation": (
        {"type": "tool_call", "name": "type", "arguments": {"text": 'a", b="'}},
        'Tool: type(text="a\\", b=\\"")',
    ),
    "a name that is no tool's": ({"type": "log", "name": "root", "level": 2}, 'log: name="root", level=2'),
    "a tool with a picture": (
        {"type": "tool_call", "name": "type", "arguments": {"image": IMAGE}},
        'Tool: type(image="[data]…")',
    ),
    "a screenshot": ({"type": "screenshots", "screenshots": [{"base64": IMAGE}]}, "Screenshot 3"),
    "two screenshots": ({"type": "screenshots", "screenshots": [IMAGE, IMAGE]}, "Screenshots 3 to 4"),
    "a screenshot's address": ({"type": "screenshots", "screenshot_url": "https://x/1.png"}, "Screenshot 3"),
    "a screenshot with words": ({"type": "shot", "image": IMAGE, "text": "Login"}, "Screenshot 3: Login"),
    "a file": ({"type": "file", "files": [{"name": "a.csv", "base64": IMAGE}]}, "File: a.csv"),
    "files": (
        {"files": [f"{letter}.csv" for letter in "abcdefg"]},
        "7 files: a.csv, b.csv, c.csv, d.csv, e.csv",
    ),
    "files without names": ({"files": [1, {"x": 2}]}, "2 files"),
    "an error": ({"type": "error", "message": "No page."}, "Error: No page."),
    "an error in an object": ({"type": "error", "error": {"message": "No page."}}, "Error: No page."),
    "an error with a code only": ({"type": "error", "code": 7}, "Error: code=7"),
    "an error without a reason": ({"type": "error"}, "Error: the service gave no reason"),
    "a completion": (COMPLETION, "Finished: completed, exit code 0"),
    "a completion without a state": ({"type": "completion"}, "Finished"),
    "a completion with words": ({"type": "completion", "message": "Done."}, "Finished: Done."),
    "a question": ({"status": "awaiting_input", "question": "Which?"}, "Question: Which?"),
    "an unknown type": ({"type": "thinking", "text": "Let me see"}, "thinking: Let me see"),
    "an unknown type without a text": (
        {"type": "stats", "task_id": "t-1", "a": 1, "none": None, "b": {}},
        "stats: a=1, b=…",
    ),
    "an unknown type with data": ({"type": "x", "data": IMAGE}, "x: [data]"),
    "an unknown type alone": ({"type": "x"}, "x"),
    "a heartbeat": ({"type": "ping"}, None),
    "text that is no event": ({"data": "hello"}, "hello"),
    "a text that forges a line": ({"message": "a\n::group::b\x1b[0m\u202e"}, "a :: group::b [0m"),
    "a long text": ({"message": "word " * 300}, ("word " * 100)[:499] + "…"),
}


def read(event: dict[str, Any], **arguments: Any) -> StreamEvent:
    return read_event(event, LIGHTCONE, **arguments)


@pytest.mark.parametrize("name", LINES)
def test_an_event_has_one_line(name: str) -> None:
    event, line = LINES[name]
    assert read(event, screenshots=2).line == line


def test_an_event_with_a_state_has_the_agent_task_as_a_status_reply_has_it() -> None:
    event = read({**RUNNING, "current_step": "Reading", "steps_completed": 2, "total_steps": 5})
    assert event.task_id == "t-1"
    assert not event.is_completion
    assert event.task is not None
    assert event.task.status is TaskState.RUNNING
    assert event.task.progress == event.progress == Progress("Reading", 2, 5)


def test_a_completion_has_the_end() -> None:
    event = read({**COMPLETION, "exit_code": 3, "result": {"files": ["a", "b"]}})
    assert event.is_completion
    assert event.task is not None
    assert (event.task.status, event.task.exit_code) == (TaskState.FAILED, 3)
    assert event.task.result == {"files": ["a", "b"]}
    assert read({"type": "Completion"}).is_completion
    assert read({"type": "completion"}).task is None


def test_an_event_may_ask() -> None:
    for event in (
        {**RUNNING, "status": "awaiting_input", "question": "Which?"},
        {**RUNNING, "status": "awaiting_input", "progress": {"current_step": "Which?"}},
        {"type": "question", "task_id": "t-1", "status": "awaiting_input", "message": "Which?"},
    ):
        task = read(event).task
        assert task is not None
        assert (task.status, task.question) == (TaskState.AWAITING_INPUT, "Which?")


def test_the_known_id_counts_where_an_event_has_none() -> None:
    event = read({"type": "completion", "exit_code": 0}, task_id="t-2", agent_id="a")
    assert event.task_id is None
    assert event.task is not None
    assert (event.task.task_id, event.task.agent_id) == ("t-2", "a")


def test_the_state_of_another_agent_task_is_ignored() -> None:
    event = read(COMPLETION, task_id="t-2")
    assert event.task_id == "t-1"
    assert event.task is None
    assert not event.is_completion


@pytest.mark.parametrize("task_id", ["", "..", "a\nb", "x" * 300, None, ["t"], True])
def test_an_unusable_id_is_none(task_id: Any) -> None:
    event = read({**COMPLETION, "task_id": task_id})
    assert event.task_id is None
    assert event.task is None
    assert event.is_completion


@pytest.mark.parametrize(
    "event",
    [
        {"type": "tool_result", "tool": "bash", "status": "failed", "exit_code": 1},
        {"type": "progress_update", "tool_call": {"name": "bash"}, "status": "completed", "exit_code": 0},
        {"type": "command", "status": "completed", "exit_code": 0},
        {"type": "progress_update", "status": " ", "exit_code": "x"},
    ],
)
def test_the_end_of_a_tool_is_not_the_end_of_the_agent_task(event: dict[str, Any]) -> None:
    assert read(event, task_id="t-1").task is None


@pytest.mark.parametrize(
    ("event", "percent"),
    [
        ({"percent": 40}, 40),
        ({"percentage": 0.4}, 40),
        ({"percent": 1}, 1),
        ({"percent": 0}, 0),
        ({"percent": 100.0}, 100),
        ({"progress": 0.4}, 40),
        ({"progress": 1}, 100),
        ({"progress": 40}, 40),
        ({"progress": {"percentage": 12.6}}, 13),
        ({"progress": {"progress": 0.5}}, 50),
        ({"progress": {}, "percent": 5}, 5),
        ({"percent": 101, "progress": 0.5}, 50),
        ({"percent": -1}, None),
        ({"percent": True}, None),
        ({"percent": "40"}, None),
        ({"progress": None}, None),
    ],
)
def test_a_percentage_is_0_to_100_or_a_share(event: dict[str, Any], percent: int | None) -> None:
    line = read(event).line or ""
    assert re.findall(r"([0-9.-]+) %", line) == ([] if percent is None else [str(percent)])


def test_usage_is_read_with_a_state_and_without() -> None:
    usage = {"usage": {"steps": 2}, "cost": 0.5, "tokens": None}
    for event in ({**RUNNING, **usage}, {"type": "tool_call", "name": "search", **usage}, usage):
        assert read(event, task_id="t-1").usage == {"steps": 2, "cost": 0.5}
    task = read({**RUNNING, **usage}).task
    assert task is not None
    assert task.usage == {"steps": 2, "cost": 0.5}
    assert read({**RUNNING, **usage}, task_id="t-2").usage is None
    assert read(RUNNING).usage is None


@pytest.mark.parametrize(
    ("delta", "text"),
    [
        (" wor", " wor"),
        ({"text": "wor"}, "wor"),
        ({"content": "wor"}, "wor"),
        ({"text": 1}, ""),
        (["wor"], ""),
        (None, ""),
        ("x" * 10**6, "x" * MAX_DELTA),
    ],
)
def test_a_delta_is_text(delta: Any, text: str) -> None:
    assert read({**RUNNING, "delta": delta}).delta == text


@pytest.mark.parametrize("service", DIALECTS)
@pytest.mark.parametrize("seed", range(5))
def test_any_event_can_be_read(service: str, seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311
    keys = [
        *("type", "task_id", "status", "exit_code", "result", "error", "message", "text", "content", "data"),
        *("question", "progress", "current_step", "steps_completed", "total_steps", "percent", "percentage"),
        *("delta", "tool", "tool_name", "tool_call", "name", "function", "arguments", "input", "usage"),
        *("cost", "tokens", "screenshots", "screenshot", "image", "files", "file", "artifacts"),
    ]
    kinds = [*SCALARS, *TEXTS, "completion", "progress_update", "error", "tool_call", "screenshots", "ping"]
    storable = [value for value in kinds if value not in ("\0", "\ud800")]
    for _ in range(400):
        event = {key: draw_value(draw, 3) for key in draw.sample(keys, draw.randrange(12))}
        read_one = read_event(
            {"type": draw.choice(storable), **event},
            DIALECTS[service],
            task_id=draw.choice([None, "t-1"]),
            screenshots=draw.randrange(3),
        )
        assert shorten(read_one.kind) == read_one.kind
        percentages = re.findall(r"([0-9.-]+) %", read_one.line or "")
        assert all(0 <= float(percentage) <= 100 for percentage in percentages)
        if read_one.line is not None:
            assert 0 < len(read_one.line) <= 500
            assert shorten(read_one.line, 500) == read_one.line
        if read_one.task_id is not None:
            assert_can_be_stored(read_one.task_id)
