"""A secret that a service echoes, however it spells it, is neither returned nor raised."""

from __future__ import annotations

import asyncio
import gzip
import json
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from airflow_agent_tasks.client.redaction import MASK, Redactor
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.hooks.find_hook import afind_hook
from airflow_agent_tasks.hooks.lightcone import LightconeHook
from airflow_agent_tasks.services.state_fields import keep_state
from tests.raw_server import reply
from tests.secret_spellings import KEY, SPELLINGS, show_plain
from tests.service_samples import AGENT_ID, NOW, SHINZO, TASK_ID, build_status


def in_ascii(value: Any) -> bytes:
    return json.dumps(value).encode()


def in_escapes(value: Any) -> bytes:
    """Return JSON with every letter and sign of its texts escaped."""
    written = json.dumps(value)
    return "".join(rf"\u{ord(letter):04x}" if letter in "_/+&<sp" else letter for letter in written).encode()


@pytest.fixture
def hook_with_key(serve: Any, connect: Any, service: Any) -> Callable[[bytes], Any]:
    """Return a function that makes the hook of a service that gives this reply."""

    def make(answer: bytes) -> Any:
        extra = {**service.extra, "proxy": ""}
        connect(service.conn_id, conn_type=service.name, host=serve(answer).url, password=KEY, extra=extra)
        return service.hook()

    return make


def show(call: Callable[[], Any]) -> str:
    """Return all that a call returns or raises."""
    try:
        task = call()
    except AgentTaskError as error:
        return "".join(traceback.format_exception(error))
    return json.dumps(task.to_json(), ensure_ascii=False) + repr(task) + str(task)


PLACES: dict[str, Callable[[str], Any]] = {
    "the result": lambda text: {"status": "completed", "result": {"a": [{"b": text}]}},
    "a key of the result": lambda text: {"status": "completed", "result": [{text: 1}]},
    "deep in the result": lambda text: {"status": "completed", "result": [[[[[[text]]]]]]},
    "the question": lambda text: {"status": "awaiting_input", "question": f"Is it {text}?"},
    "the end of a long question": lambda text: {"status": "awaiting_input", "question": "a" * 9_990 + text},
    "the status": lambda text: {"status": text},
    "the progress": lambda text: {"status": "running", "progress": {"current_step": text}},
    "a timestamp": lambda text: {"status": "running", "created_at": text},
    "an error": lambda text: {"error": {"message": text}},
    "something else": lambda text: {"other": text},
}


def check(spelled: str, shown: str) -> None:
    assert KEY not in show_plain(shown)
    assert spelled not in shown
    assert json.dumps(spelled)[1:-1] not in shown


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("write", [in_ascii, in_escapes])
def test_no_spelling_is_shown(name: str, place: str, write: Callable[[Any], bytes]) -> None:
    spelled = SPELLINGS[name](KEY)
    body = write(PLACES[place](spelled))
    redactor = Redactor(KEY)
    for status, has_result in ((200, True), (200, False), (400, True)):
        response = redactor.build_response(status, {"content-type": f"text/{spelled}"}, body)

        def parse(response: Any = response, has_result: bool = has_result) -> Any:
            return SHINZO.parse_task(
                build_status(SHINZO),
                response,
                task_id=TASK_ID,
                agent_id=AGENT_ID,
                now=NOW,
                has_result=has_result,
            )

        check(spelled, show(parse))
    check(spelled, json.dumps(keep_state(redactor.build_response(200, {}, body), lambda: None).decode()))


@pytest.mark.parametrize("name", ["as it is", "percent-encoded in full", "one after the other", "base64"])
@pytest.mark.parametrize("place", ["the result", "the question", "an error"])
def test_no_spelling_is_shown_of_a_service(name: str, place: str, hook_with_key: Any) -> None:
    spelled = SPELLINGS[name](KEY)
    body = in_escapes(PLACES[place](spelled))
    for answer in (
        reply(200, body, kind=f"text/{spelled}"),
        reply(400, body, retry_after=spelled),
        reply(200, gzip.compress(body), content_encoding="gzip"),
    ):
        hook = hook_with_key(answer)

        async def ask(hook: Any = hook) -> Any:
            found = await afind_hook(hook.conn_id)
            await found.aopen()
            try:
                return await found.aget_task("t1", hook.resolve_agent_id(None))
            finally:
                await found.aclose()

        check(spelled, show(lambda hook=hook: hook.get_task("t1", retries=False)))
        check(spelled, show(lambda: asyncio.run(ask())))


@pytest.mark.parametrize("name", SPELLINGS)
def test_no_spelling_is_streamed(name: str, serve: Any, connect: Any) -> None:
    spelled = SPELLINGS[name](KEY)
    lines = [
        b"data: " + in_escapes({"a": [spelled, {spelled: 1}]}),
        b"event: " + spelled.encode() + b"\ndata: {}",
        b"data: plain " + spelled.encode(),
    ]
    body = b"\n\n".join(lines) + b"\n\n"
    server = serve(reply(200, body, kind="text/event-stream"))
    connect("lightcone_default", conn_type="lightcone", host=server.url, password=KEY)
    shown = json.dumps(list(LightconeHook().stream_task(instruction="Go.")), ensure_ascii=False)
    check(spelled, shown)
    assert MASK in shown
