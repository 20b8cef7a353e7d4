"""What the Lightcone hook sends is what the official SDK sends."""

from __future__ import annotations

import asyncio
import inspect
import json
import typing
from collections.abc import Callable, Iterable
from typing import Any, get_origin

import pytest
import tzafon
from typing_extensions import Required, is_typeddict
from tzafon.resources.agent.tasks import TasksResource
from tzafon.types.agent.task_inject_message_params import TaskInjectMessageParams
from tzafon.types.agent.task_start_params import TaskStartParams
from tzafon.types.agent.task_start_stream_params import TaskStartStreamParams

from airflow_agent_tasks.errors import AgentTaskArgumentError
from airflow_agent_tasks.hooks.lightcone import LightconeHook
from tests.raw_server import RawServer, Received, reply

KEY = "sk_very_secret_0123456789"
REPLY = reply(200, {"task_id": "t1", "status": "running"})
STREAM = reply(200, b'data: {"type": "completion"}\n\n', kind="text/event-stream")
IDS = (
    "t1",
    "tsk_1-2.3~4",
    "a/b",
    "a b",
    "a%2Fb",
    "ä€",
    "a\nb",
    "a?b#c",
    "..a",
    "%",
    "a|b",
    "[1]",
    '"',
    "a!$&'()*+,;=:@b",
)


def samples(kind: Any) -> list[Any]:
    """Return values of a type of the SDK; a kind of type that it has not used so far fails the test."""
    if get_origin(kind) is Required:
        return samples(typing.get_args(kind)[0])
    if get_origin(kind) is typing.Literal:
        return list(typing.get_args(kind))
    if is_typeddict(kind):
        return [{name: samples(inner)[0] for name, inner in typing.get_type_hints(kind).items()}]
    if get_origin(kind) is dict:
        return [{"team": "data", "": "ä"}, {}]
    if get_origin(kind) is Iterable:
        return [samples(typing.get_args(kind)[0]) * 2, []]
    return {str: ["https://example.com/ä"], int: [7, 1], float: [0.5, 0, 1], bool: [True, False]}[kind]


FIELDS = {name: samples(kind) for name, kind in typing.get_type_hints(TaskStartParams).items()}
BODIES: list[dict[str, Any]] = [
    {"instruction": "Go."},
    *({"instruction": "Go.", name: value} for name, values in FIELDS.items() for value in values),
    {name: values[0] for name, values in FIELDS.items()},
    {name: values[-1] for name, values in FIELDS.items()},
]

Call = tuple[str, tuple[Any, ...], dict[str, Any]]


@pytest.fixture
def server(serve: Callable[..., RawServer], connect: Callable[..., str]) -> RawServer:
    made = serve(REPLY)
    connect("lightcone_default", conn_type="lightcone", host=made.url)
    return made


@pytest.fixture(params=["sync SDK", "async SDK"])
def call_sdk(request: pytest.FixtureRequest, server: RawServer) -> Callable[[list[Call]], list[Received]]:
    """Return a function that makes calls with the official SDK and returns the requests it sent."""
    options: dict[str, Any] = {"api_key": KEY, "base_url": server.url, "max_retries": 0}

    def call(calls: list[Call]) -> None:
        with tzafon.Lightcone(**options) as client:
            for name, arguments, fields in calls:
                answer = getattr(client.agent.tasks, name)(*arguments, **fields)
                if name == "start_stream":
                    list(answer)

    async def acall(calls: list[Call]) -> None:
        async with tzafon.AsyncLightcone(**options) as client:
            for name, arguments, fields in calls:
                answer = await getattr(client.agent.tasks, name)(*arguments, **fields)
                if name == "start_stream":
                    async for _ in answer:
                        pass

    def record(calls: list[Call]) -> list[Received]:
        before = len(server.requests)
        call(calls) if request.param == "sync SDK" else asyncio.run(acall(calls))
        return server.requests[before:]

    return record


def assert_equal(ours: list[Received], theirs: list[Received]) -> None:
    assert len(ours) == len(theirs) > 0
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.method, mine.target) == (other.method, other.target)
        # As text, because to Python True equals 1 and 1 equals 1.0.
        assert json.dumps(mine.json, sort_keys=True) == json.dumps(other.json, sort_keys=True)
        assert mine.headers["authorization"] == other.headers["authorization"] == f"Bearer {KEY}"
        if mine.body:
            assert mine.headers["content-type"] == other.headers["content-type"] == "application/json"


def test_every_start_field_of_the_sdk_is_known_and_no_other() -> None:
    stream_fields = set(typing.get_type_hints(TaskStartStreamParams))
    known = {field.name for field in LightconeHook.dialect.start_fields}
    assert known == set(FIELDS) == stream_fields


def test_every_call_of_the_sdk_has_its_counterpart() -> None:
    calls = {name for name, _ in inspect.getmembers(TasksResource, inspect.isfunction) if name[0] != "_"}
    assert calls == {"start", "start_stream", "retrieve_status", "inject_message", "pause", "resume"}
    assert set(typing.get_type_hints(TaskInjectMessageParams)) == {"message"}


def test_a_start_is_sent_as_by_the_sdk(server: RawServer, call_sdk: Any) -> None:
    hook = LightconeHook()
    for body in BODIES:
        assert hook.start_task(**body).task_id == "t1"
    ours = list(server.requests)
    assert_equal(ours, call_sdk([("start", (), body) for body in BODIES]))


def test_the_start_of_a_stream_is_sent_as_by_the_sdk(server: RawServer, call_sdk: Any) -> None:
    server.answer(STREAM)
    hook = LightconeHook()
    for body in BODIES:
        assert list(hook.stream_task(**body)) == [{"type": "completion"}]
    ours = list(server.requests)
    theirs = call_sdk([("start_stream", (), body) for body in BODIES])
    assert_equal(ours, theirs)
    assert ours[0].headers["accept"] == theirs[0].headers["accept"]


@pytest.mark.parametrize("task_id", IDS)
def test_calls_on_a_task_are_sent_as_by_the_sdk(task_id: str, server: RawServer, call_sdk: Any) -> None:
    hook = LightconeHook()
    hook.get_task(task_id)
    hook.send_message(task_id, "Yes, ä\n")
    hook.pause_task(task_id)
    hook.resume_task(task_id)
    hook.stop_task(task_id)
    ours = list(server.requests)
    calls = [
        ("retrieve_status", (task_id,), {}),
        ("inject_message", (task_id,), {"message": "Yes, ä\n"}),
        ("pause", (task_id,), {}),
        ("resume", (task_id,), {}),
        ("pause", (task_id,), {}),
        ("retrieve_status", (task_id,), {}),
    ]
    assert_equal(ours, call_sdk(calls))


@pytest.mark.parametrize("task_id", ["", " ", ".", "..", None, 5, "a" * 257])
def test_an_id_that_cannot_be_one_is_refused_before_anything_is_sent(task_id: Any, server: RawServer) -> None:
    with pytest.raises(AgentTaskArgumentError, match="task_id"):
        LightconeHook().get_task(task_id)
    assert server.requests == []
