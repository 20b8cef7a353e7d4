"""What a service, or a server in its place, can do wrong: each gives its own clear error."""

from __future__ import annotations

import asyncio
import gzip
import json
import traceback
from typing import Any

import pytest

from airflow_agent_tasks.errors import (
    AgentTaskAuthenticationError,
    AgentTaskError,
    AgentTaskNotFoundError,
    AgentTaskRateLimitedError,
    AgentTaskRejectedError,
    AgentTaskReplyError,
    AgentTaskUnavailableError,
    AgentTaskUncertainError,
)
from airflow_agent_tasks.hooks.find_hook import afind_hook
from airflow_agent_tasks.services.http import MAX_BODY_BYTES
from tests.raw_server import Exchange, cut, drip, head, reply, silence

KEY = "sk_very_secret_0123456789"
PATIENCE = 0.4
PAGE = "<html><body><h1>502 Bad Gateway</h1></body></html>"
LARGE = 50 * 1024 * 1024
TOO_SLOW = [f"within {PATIENCE:g} s", "'timeout'"]


def pour(exchange: Exchange) -> None:
    exchange.send(head(content_length=str(LARGE)))
    for _ in range(LARGE // 65536):
        exchange.send(b" " * 65536)


def drip_body(exchange: Exchange) -> None:
    exchange.send(head(content_length="1000"))
    drip(b'{"status": "running"')(exchange)


BAD_REPLIES: dict[str, tuple[Any, type[AgentTaskError], list[str]]] = {
    "a wrong key": (
        reply(401, {"error": "Invalid API key"}),
        AgentTaskAuthenticationError,
        ["401", "Invalid API key", "password field"],
    ),
    "a key without rights": (reply(403, {"error": "Forbidden"}), AgentTaskAuthenticationError, ["403"]),
    "an unknown id": (reply(404, {"error": "no such task"}), AgentTaskNotFoundError, ["404", "no such task"]),
    "a wrong request": (reply(400, {"error": {"message": "no"}}), AgentTaskRejectedError, ["400", "no"]),
    "a wrong field": (reply(422, {"detail": [{"msg": "bad"}]}), AgentTaskRejectedError, ["422", "bad"]),
    "a conflict": (reply(409, {"message": "busy"}), AgentTaskRejectedError, ["409", "busy"]),
    "too many requests": (
        reply(429, {"error": "slow down"}, retry_after="7"),
        AgentTaskRateLimitedError,
        ["429", "slow down"],
    ),
    "HTML with 502": (
        reply(502, PAGE, kind="text/html; charset=utf-8"),
        AgentTaskUnavailableError,
        ["502", "text/html"],
    ),
    "status 529": (reply(529, {"error": "overloaded"}), AgentTaskUnavailableError, ["529", "overloaded"]),
    "status 520 without a word": (reply(520, b""), AgentTaskUnavailableError, ["520"]),
    "a redirect": (
        reply(302, b"", location="https://example.com/"),
        AgentTaskRejectedError,
        ["302", "Redirects are not followed", "host"],
    ),
    "an empty body": (reply(200, b""), AgentTaskReplyError, ["200", "empty body"]),
    "no content": (reply(204, b""), AgentTaskReplyError, ["204", "empty body"]),
    "HTML with 200": (reply(200, "<html>Login</html>", kind="text/html"), AgentTaskReplyError, ["text/html"]),
    "invalid JSON": (reply(200, b'{"status": "run'), AgentTaskReplyError, ["200", "JSON"]),
    "JSON that is no object": (reply(200, ["running"]), AgentTaskReplyError, ["200", "JSON"]),
    "JSON nested too deeply": (reply(200, "[" * 100_000), AgentTaskReplyError, ["200", "JSON"]),
    "bytes that are no text": (reply(200, b"\xff\xfe\x00\x01" * 50), AgentTaskReplyError, ["200", "JSON"]),
    "no status": (reply(200, {"task_id": "t1"}), AgentTaskReplyError, ["status"]),
    "50 MB": (pour, AgentTaskReplyError, [str(MAX_BODY_BYTES), "the rest was not read"]),
    "50 MB packed": (
        reply(200, gzip.compress(b" " * LARGE), content_encoding="gzip"),
        AgentTaskReplyError,
        [str(MAX_BODY_BYTES), "the rest was not read"],
    ),
    "a cut in the head": (cut(b"HTTP/1.1 200 OK\r\nContent-"), AgentTaskError, []),
    "a cut in the middle": (
        cut(head(content_length="100") + b'{"status": "running"'),
        AgentTaskUnavailableError,
        ["closed the connection before the response was complete"],
    ),
    "a reply after the timeout": (
        silence,
        AgentTaskUnavailableError,
        TOO_SLOW,
    ),
    "a reply that drips": (drip_body, AgentTaskUnavailableError, TOO_SLOW),
}


def limit(words: list[str]) -> dict[str, float]:
    """Return a short timeout where the test is to wait for it."""
    return {"timeout": PATIENCE} if words is TOO_SLOW else {}


@pytest.mark.parametrize("name", BAD_REPLIES)
def test_a_bad_reply_gives_its_own_clear_error(name: str, service: Any, serve: Any, hook_for: Any) -> None:
    script, kind, words = BAD_REPLIES[name]
    server = serve(script)
    hook = hook_for(service, server, **limit(words))
    with pytest.raises(AgentTaskError) as caught:
        hook.get_task("tsk_1", retries=False)
    assert_clear(caught.value, kind, ["tsk_1", *words])
    assert server.requests[0].target == service.status_path.format("tsk_1")
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", BAD_REPLIES)
def test_the_triggerer_gives_the_same_error_as_the_worker(
    name: str, service: Any, serve: Any, hook_for: Any
) -> None:
    script, kind, words = BAD_REPLIES[name]
    hook = hook_for(service, serve(script), **limit(words))
    agent_id = hook.resolve_agent_id(None)

    async def ask() -> None:
        found = await afind_hook(service.conn_id)
        await found.aopen()
        try:
            await found.aget_task("tsk_1", agent_id)
        finally:
            await found.aclose()

    with pytest.raises(AgentTaskError) as in_triggerer:
        asyncio.run(ask())
    assert_clear(in_triggerer.value, kind, words)
    if kind is not AgentTaskError:
        with pytest.raises(AgentTaskError) as in_worker:
            hook.get_task("tsk_1", retries=False)
        assert str(in_triggerer.value) == str(in_worker.value)


#: What a start, or a message, may have done in spite of the reply.
DOUBTFUL = [
    "HTML with 502",
    "status 529",
    "status 520 without a word",
    "an empty body",
    "no content",
    "HTML with 200",
    "invalid JSON",
    "JSON that is no object",
    "bytes that are no text",
    "50 MB",
    "50 MB packed",
    "a cut in the head",
    "a cut in the middle",
    "a reply after the timeout",
    "a reply that drips",
]


@pytest.mark.parametrize("name", DOUBTFUL)
def test_a_start_without_a_readable_reply_may_have_begun(
    name: str, service: Any, serve: Any, hook_for: Any
) -> None:
    script, _, words = BAD_REPLIES[name]
    server = serve(script)
    with pytest.raises(AgentTaskUncertainError, match="may have been carried out") as caught:
        hook_for(service, server, **limit(words)).start_task(**service.start)
    assert_clear(caught.value, AgentTaskUncertainError, [])
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", ["a wrong key", "a key without rights", "a wrong request", "a wrong field"])
def test_a_start_that_was_refused_is_final(name: str, service: Any, serve: Any, hook_for: Any) -> None:
    script, kind, words = BAD_REPLIES[name]
    server = serve(script)
    with pytest.raises(AgentTaskError) as caught:
        hook_for(service, server).start_task(**service.start)
    assert_clear(caught.value, kind, words)
    assert caught.value.is_final
    assert len(server.requests) == 1


def test_a_start_that_names_no_task_may_have_begun_one(service: Any, serve: Any, hook_for: Any) -> None:
    for body in ({"status": "running"}, {"task_id": "", "status": "x"}, {"task_id": None}, {"task_id": {}}):
        with pytest.raises(AgentTaskUncertainError, match="task_id"):
            hook_for(service, serve(reply(200, body))).start_task(**service.start)


def test_the_wait_that_the_service_asks_for_is_passed_on(service: Any, serve: Any, hook_for: Any) -> None:
    for status in (429, 503):
        with pytest.raises(AgentTaskUnavailableError) as caught:
            hook_for(service, serve(reply(status, retry_after="7"))).get_task("tsk_1", retries=False)
        assert (caught.value.retry_after, caught.value.is_transient) == (7.0, True)


@pytest.mark.parametrize(
    "task_id", ["../../admin", "a/b\nX-Evil: 1", "a\r\nb", "a b?c=d#e", "\x00", "ä" * 99]
)
def test_an_odd_id_stays_one_segment_of_the_path_and_one_line_of_the_message(
    task_id: str, service: Any, serve: Any, hook_for: Any
) -> None:
    server = serve(reply(404, {"error": "no\nsuch\x1b[31m task\u202e"}))
    with pytest.raises(AgentTaskNotFoundError) as caught:
        hook_for(service, server).get_task(task_id)
    (received,) = server.requests
    before, after = service.status_path.split("{}")
    segment = received.target.removeprefix(before).removesuffix(after)
    assert segment
    assert not set(segment) & set("/?# \r\n")
    assert "x-evil" not in received.headers
    assert str(caught.value).isprintable()


def test_a_key_that_is_echoed_is_not_shown(service: Any, serve: Any, hook_for: Any) -> None:
    bodies = (json.dumps({"error": f"bad key {KEY}"}), f"<html>{KEY}</html>")
    for status in (200, 400, 401, 404, 429, 500, 503):
        for body in bodies:
            hook = hook_for(service, serve(reply(status, body, kind=f"text/{KEY}")))
            with pytest.raises(AgentTaskError) as caught:
                hook.get_task("tsk_1", retries=False)
            assert KEY not in "".join(traceback.format_exception(caught.value))


def test_an_unknown_word_is_not_an_error(service: Any, serve: Any, hook_for: Any) -> None:
    task = hook_for(service, serve(reply(200, {"status": "Pondering"}))).get_task("tsk_1")
    assert (task.status.value, task.remote_status, task.is_terminal) == ("unknown", "Pondering", False)


def assert_clear(error: AgentTaskError, kind: type[AgentTaskError], words: list[str]) -> None:
    """The error is of this class, holds the words on one line, and drags no other error along."""
    if kind is AgentTaskError:
        assert isinstance(error, AgentTaskReplyError | AgentTaskUnavailableError)
    else:
        assert type(error) is kind, repr(error)
    message = str(error)
    assert all(word in message for word in words), message
    assert message.isprintable()
    assert len(message) < 700
    assert KEY not in message
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
