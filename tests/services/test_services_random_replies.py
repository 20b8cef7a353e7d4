"""Whatever a service answers, reading it brings an agent task that can be stored, or one of our errors."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.services.event_stream import EventStreamParser
from airflow_agent_tasks.services.http import Response
from tests.service_samples import DIALECTS, build_message, build_start, build_status, build_stop

KEYS = [
    *("task_id", "status", "exit_code", "result", "error", "message", "detail", "msg", "reused"),
    *("question", "prompt", "input_request", "progress", "current_step", "steps_completed", "total_steps"),
    *("created_at", "started_at", "completed_at"),
]
SCALARS: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    3,
    2**63,
    -(10**30),
    0.5,
    3.0,
    1e300,
    float("nan"),
    float("inf"),
]
TEXTS = [
    *KEYS,
    "running",
    "AWAITING INPUT",
    "completed",
    "failed",
    "3",
    "",
    " ",
    "\0",
    "\ud800",
    "🙂",
    "a\nb",
    "..",
]
HEADERS = ["retry-after", "retry-after-ms", "content-type", "location"]
STATUSES = [200, 200, 200, 202, 204, 302, 400, 401, 403, 404, 409, 422, 429, 500, 502, 503, 520, 529]
ROUNDS = 100


def draw_value(draw: random.Random, depth: int) -> Any:
    kind = draw.randrange(6 if depth else 4)
    if kind == 0:
        return draw.choice(SCALARS)
    if kind <= 3:
        return draw.choice(TEXTS) * draw.choice([1, 1, 1, 300])
    if kind == 4:
        return [draw_value(draw, depth - 1) for _ in range(draw.randrange(4))]
    return draw_object(draw, depth - 1)


def draw_object(draw: random.Random, depth: int) -> dict[str, Any]:
    keys = draw.sample(KEYS, draw.randrange(8)) + draw.sample(TEXTS, draw.randrange(3))
    if draw.random() < 0.5:
        keys += ["status", "task_id"]
    return {key: draw_value(draw, depth) for key in keys}


def draw_body(draw: random.Random) -> bytes:
    value = draw_object(draw, 4) if draw.random() < 0.8 else draw_value(draw, 4)
    body = json.dumps(value, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    if draw.random() < 0.2:
        at = draw.randrange(len(body))
        body = body[:at] + draw.randbytes(draw.randrange(3)) + body[at + draw.randrange(4) :]
    return body


def draw_response(draw: random.Random) -> Response:
    headers = {name: str(draw_value(draw, 0)) for name in HEADERS if draw.random() < 0.5}
    return Response(draw.choice(STATUSES), headers, draw_body(draw))


def assert_can_be_stored(value: Any) -> None:
    """Fail where PostgreSQL, JSON, UTF-8 or msgpack would refuse the value."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    text.encode()
    assert r"\u0000" not in text
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            assert_can_be_stored(item)
    elif isinstance(value, int):
        assert -(2**63) <= value < 2**63


@pytest.mark.parametrize("service", DIALECTS)
@pytest.mark.parametrize("build", [build_status, build_message, build_stop, build_start])
@pytest.mark.parametrize("seed", range(4))
def test_reading_any_reply_raises_nothing_but_our_errors(service: str, build: Any, seed: int) -> None:
    draw = random.Random(f"{service} {build.__name__} {seed}")  # noqa: S311
    dialect = DIALECTS[service]
    request = build(dialect)
    read: list[AgentTask] = []
    errors: list[AgentTaskError] = []
    for _ in range(ROUNDS):
        response = draw_response(draw)
        try:
            read.append(dialect.parse_task(request, response, task_id="a", agent_id="b", now=1e9))
        except AgentTaskError as error:
            errors.append(error)
        try:
            read.append(dialect.parse_started(request, response, agent_id="b", now=1e9))
        except AgentTaskError as error:
            errors.append(error)
    assert len(read) > 10
    assert len(errors) > 10
    for task in read:
        assert_can_be_stored(task.to_json())
        assert str(task).isprintable()
    for text in map(str, errors):
        assert len(text) < 1_000
        assert text.isprintable()


@pytest.mark.parametrize("service", DIALECTS)
@pytest.mark.parametrize("seed", range(4))
def test_a_response_has_the_same_state_without_its_result(service: str, seed: int) -> None:
    draw = random.Random(f"{service} state {seed}")  # noqa: S311
    dialect = DIALECTS[service]
    request = build_status(dialect)

    def read(response: Response, has_result: bool) -> AgentTask | str:
        try:
            task = dialect.parse_task(
                request, response, task_id="a", agent_id="b", now=1e9, has_result=has_result
            )
        except AgentTaskError as error:
            return str(error)
        times = {"created_at": None, "started_at": None, "completed_at": None}
        return replace(task, result=None, reused=False, **times)

    compared = 0
    for _ in range(ROUNDS):
        response = draw_response(draw)
        whole, state = read(response, True), read(response, False)
        # A result that is garbled, and that nobody reads, does not hide the state.
        if isinstance(whole, AgentTask) or response.status >= 400:
            assert state == whole
            compared += 1
    assert compared > 10


@pytest.mark.parametrize("seed", range(4))
def test_reading_any_stream_raises_nothing_however_it_is_cut(seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311
    ends = [b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b""]
    names = [b"data: ", b"data:", b"event: ", b"id: ", b": ", b"retry", b"data", b""]
    for _ in range(ROUNDS):
        stream = b"".join(
            draw.choice(names) + draw_body(draw)[: draw.randrange(80)] + draw.choice(ends) for _ in range(12)
        )
        whole = EventStreamParser()
        expected = whole.feed(stream) + whole.finish()
        cuts = sorted(draw.randrange(len(stream) + 1) for _ in range(8))
        pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        parser = EventStreamParser()
        events = [event for piece in pieces for event in parser.feed(piece)]
        assert events + parser.finish() == expected
        assert all(isinstance(event, dict) for event in expected)
