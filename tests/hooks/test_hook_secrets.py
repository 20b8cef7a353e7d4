"""A secret that a service echoes, however it spells it, is neither returned nor raised."""

from __future__ import annotations

import asyncio
import gzip
import html
import json
import traceback
from base64 import b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from airflow_agent_tasks.client.redaction import MASK, Redactor
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.hooks.find_hook import afind_hook
from airflow_agent_tasks.hooks.lightcone import LightconeHook
from tests.raw_server import reply

#: With what JSON, URLs, base64 and HTML spell in their own ways.
KEY = "sk_very/secret+0123&456<789"
PASSWORD = "p-w/rd@0123"


def escape(text: str, write: Callable[[int], str]) -> str:
    return "".join(write(ord(letter)) for letter in text)


#: How a service may write a secret into a text.
SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "percent-encoded": lambda key: quote(key, safe=""),
    "percent-encoded in lower case": lambda key: quote(key, safe="").lower(),
    "percent-encoded in full": lambda key: escape(key, "%{:02X}".format),
    "percent-encoded twice": lambda key: quote(quote(key, safe=""), safe=""),
    "JSON in JSON": lambda key: json.dumps({"key": key}).replace("/", r"\/"),
    "JSON in JSON in JSON": lambda key: json.dumps(json.dumps({"key": key}).replace("/", r"\/")),
    "JSON escapes": lambda key: escape(key, r"\u{:04x}".format),
    "JSON escapes in upper case": lambda key: escape(key, r"\u{:04X}".format),
    "hexadecimal escapes": lambda key: escape(key, r"\x{:02x}".format),
    "HTML": html.escape,
    "HTML in numbers": lambda key: escape(key, "&#{};".format),
    "HTML in hexadecimal numbers": lambda key: escape(key, "&#x{:X};".format),
    "basic authorization": lambda key: "Basic " + b64encode(f"user:{key}".encode()).decode(),
    "base64": lambda key: b64encode(key.encode()).decode(),
    "base64 of a header": lambda key: b64encode(f"Bearer {key}\r\n".encode()).decode(),
    "base64 for URLs": lambda key: b64encode(f"a{key}?".encode(), b"-_").decode(),
    "hexadecimal digits": lambda key: key.encode().hex(),
}


def in_ascii(value: Any) -> bytes:
    return json.dumps(value).encode()


def in_escapes(value: Any) -> bytes:
    """Return JSON with every letter and sign of its texts escaped."""
    written = json.dumps(value)
    return "".join(rf"\u{ord(letter):04x}" if letter in "_/+&<sp" else letter for letter in written).encode()


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("secret", [KEY, PASSWORD])
def test_every_spelling_is_masked(name: str, secret: str) -> None:
    redactor = Redactor(KEY, f"http://user:{quote(PASSWORD, safe='')}@proxy.example.com")
    spelled = SPELLINGS[name](secret)
    redacted = redactor.redact(f"before {spelled} after")
    assert spelled not in redacted
    assert MASK in redacted
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")


@pytest.mark.parametrize(
    "text", ["", "a", "100 %", "C:\\users", "&amp;", "%%%%", "\\" * 1_000, "sk_very", "**", "ä🙂"]
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert Redactor(KEY, "http://user:abc@proxy.example.com").redact(text) == text


def test_a_short_password_masks_no_words() -> None:
    assert Redactor(KEY, "http://user:run@proxy.example.com").redact("running") == "running"


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


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("write", [in_ascii, in_escapes])
def test_no_spelling_is_shown(
    name: str, place: str, write: Callable[[Any], bytes], hook_with_key: Any
) -> None:
    spelled = SPELLINGS[name](KEY)
    body = write(PLACES[place](spelled))
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

        for call in (lambda hook=hook: hook.get_task("t1", retries=False), lambda: asyncio.run(ask())):
            shown = show(call)
            assert KEY not in shown
            assert spelled not in shown
            assert json.dumps(spelled)[1:-1] not in shown


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
    assert KEY not in shown
    assert json.dumps(spelled)[1:-1] not in shown
    assert MASK in shown
