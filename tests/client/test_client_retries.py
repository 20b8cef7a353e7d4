"""When a request is sent again, and how long is waited before; the waits are injected and never real."""

from __future__ import annotations

import contextlib
import time
from email.utils import formatdate
from typing import Any

import pytest

from airflow_agent_tasks.client import async_client
from airflow_agent_tasks.client.retry_policy import ATTEMPTS
from airflow_agent_tasks.errors import AgentTaskUnavailableError, AgentTaskUncertainError
from airflow_agent_tasks.lifecycle import wait_policy
from tests.raw_server import cut, reply

OK = reply(200, {"status": "running"})
#: The back-off's first wait is drawn from 0 to this many seconds.
FIRST_BACKOFF = 0.5


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 520, 529])
def test_a_temporarily_rejected_status_request_is_retried(
    status: int, send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server = serve(reply(status), reply(status), OK)
    assert send(settings_for(server), requests_to_send.status).status == 200
    assert len(server.requests) == 3
    assert len(send.sleeps) == 2


def test_the_waits_grow_and_differ(send: Any, serve: Any, settings_for: Any, requests_to_send: Any) -> None:
    server = serve(reply(503))
    for _ in range(10):
        send(settings_for(server), requests_to_send.status)
    by_attempt = [send.sleeps[number :: ATTEMPTS - 1] for number in range(ATTEMPTS - 1)]
    assert len(set(send.sleeps)) == len(send.sleeps)
    for number, waits in enumerate(by_attempt):
        assert all(0 <= seconds <= FIRST_BACKOFF * 2**number for seconds in waits)


@pytest.mark.parametrize("status", [200, 202, 204, 301, 400, 401, 403, 404, 409, 410, 422, 451])
def test_a_clear_response_is_not_retried(
    status: int, send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server = serve(reply(status, b""))
    for request in (requests_to_send.status, requests_to_send.keyed_start):
        assert send(settings_for(server), request).status == status
    assert len(server.requests) == 2
    assert send.sleeps == []


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"retry_after": "7"}, 7, 7),
        ({"retry_after": "2.5"}, 2.5, 2.5),
        ({"retry_after_ms": "3500"}, 3.5, 3.5),
        ({"retry_after_ms": "3500", "retry_after": "9"}, 3.5, 3.5),
        ({"retry_after": "in a while"}, 0, FIRST_BACKOFF),
        ({"retry_after": "-5"}, 0, FIRST_BACKOFF),
        ({"retry_after": "nan"}, 0, FIRST_BACKOFF),
    ],
    ids=str,
)
def test_retry_after_is_respected(
    status: int,
    headers: dict[str, str],
    least: float,
    most: float,
    send: Any,
    serve: Any,
    settings_for: Any,
    requests_to_send: Any,
) -> None:
    server = serve(reply(status, **headers), OK)
    assert send(settings_for(server), requests_to_send.start).status == 200
    assert len(send.sleeps) == 1
    assert least <= send.sleeps[0] <= most


def test_retry_after_may_be_a_date(send: Any, serve: Any, settings_for: Any, requests_to_send: Any) -> None:
    in_20_seconds = formatdate(time.time() + 20, usegmt=True)
    server = serve(reply(429, retry_after=in_20_seconds), OK)
    assert send(settings_for(server), requests_to_send.status).status == 200
    assert send.sleeps == [pytest.approx(19, abs=1.5)]


@pytest.mark.parametrize("seconds", ["61", "3600", "999999999", "1e300"])
def test_a_longer_retry_after_than_the_budget_is_left_to_the_caller(
    seconds: str, send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server = serve(reply(429, retry_after=seconds))
    response = send(settings_for(server), requests_to_send.status)
    assert (response.status, response.headers["retry-after"]) == (429, seconds)
    assert len(server.requests) == 1
    assert send.sleeps == []


def test_the_last_error_response_is_returned(
    send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server = serve(reply(503, {"error": "still down"}))
    response = send(settings_for(server), requests_to_send.status)
    assert (response.status, response.to_json()) == (503, {"error": "still down"})
    assert len(server.requests) == ATTEMPTS


@pytest.mark.parametrize("name", ["start", "keyed_start", "pause"])
def test_without_retries_everything_is_sent_once(
    name: str, send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server = serve(reply(429, retry_after="1"))
    assert send(settings_for(server), getattr(requests_to_send, name), retries=False).status == 429
    server.answer(cut())
    with pytest.raises((AgentTaskUnavailableError, AgentTaskUncertainError)):
        send(settings_for(server), getattr(requests_to_send, name), retries=False)
    assert len(server.requests) == 2
    assert send.sleeps == []


def test_a_refused_connection_is_retried(
    send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server = serve()
    server.close()
    with pytest.raises(AgentTaskUnavailableError):
        send(settings_for(server), requests_to_send.start)
    assert len(send.sleeps) == ATTEMPTS - 1


@pytest.mark.parametrize("name", ["status", "pause", "keyed_start"])
def test_what_does_no_harm_twice_is_sent_again_after_a_cut(
    name: str, send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server = serve(cut(), reply(502), OK)
    assert send(settings_for(server), getattr(requests_to_send, name)).status == 200
    assert len(server.requests) == 3
    assert {received.body for received in server.requests} == {server.requests[0].body}


@pytest.mark.parametrize("script", [cut(), reply(500), reply(502), reply(504), reply(520)])
def test_a_start_without_a_key_is_sent_once_where_it_may_have_been_carried_out(
    script: Any, send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server = serve(script, OK)
    # A reply, of whatever status, is returned to be read: the dialect says of it that it leaves a doubt.
    with contextlib.suppress(AgentTaskUncertainError):
        assert send(settings_for(server), requests_to_send.start).status >= 500
    assert len(server.requests) == 1
    assert send.sleeps == []


@pytest.mark.parametrize("status", [408, 429, 503])
def test_a_start_that_was_surely_not_carried_out_is_sent_again(
    status: int, send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server = serve(reply(status), OK)
    assert send(settings_for(server), requests_to_send.start).status == 200
    assert len(server.requests) == 2


@pytest.mark.parametrize("first", [cut(), reply(502)])
@pytest.mark.parametrize("last", [429, 503, 404, 422])
def test_a_rejection_does_not_settle_an_uncertain_attempt(
    first: Any, last: int, send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server = serve(first, reply(last))
    with pytest.raises(AgentTaskUncertainError, match="may have been carried out") as caught:
        send(settings_for(server), requests_to_send.keyed_start)
    assert caught.value.status == last
    assert caught.value.is_final


def test_an_unreachable_service_does_not_settle_an_uncertain_attempt(
    send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server = serve()

    def cut_and_close_shop(exchange: Any) -> None:
        server.stop_listening()

    server.answer(cut_and_close_shop)
    with pytest.raises(AgentTaskUncertainError, match="An earlier attempt got no clear response") as caught:
        send(settings_for(server), requests_to_send.keyed_start)
    assert len(server.requests) == 1
    assert "no connection" in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_success_settles_an_uncertain_attempt(
    send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server = serve(cut(), reply(200, {"task_id": "t1", "reused": True}))
    assert send(settings_for(server), requests_to_send.keyed_start).to_json()["reused"] is True


def test_a_status_request_is_never_uncertain(
    send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server = serve(cut(), reply(404))
    assert send(settings_for(server), requests_to_send.status).status == 404


@pytest.mark.parametrize("send", ["sync"], indirect=True)
def test_requests_are_paced(send: Any, serve: Any, settings_for: Any, requests_to_send: Any) -> None:
    server = serve(OK)
    began = time.monotonic()
    send(settings_for(server, requests_per_second=0.5), *[requests_to_send.status] * 4)
    took = time.monotonic() - began
    assert len(server.requests) == 4
    # No time passes in the injected sleep, so each wait adds up on those before it.
    assert send.sleeps == [pytest.approx(2 * number, abs=took + 0.01) for number in (1, 2, 3)]


@pytest.mark.parametrize("send", ["sync"], indirect=True)
def test_without_a_limit_nothing_waits(
    send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    send(settings_for(serve(OK)), *[requests_to_send.status] * 4)
    assert send.sleeps == []


@pytest.mark.parametrize("send", ["sync"], indirect=True)
def test_retries_are_paced_too(send: Any, serve: Any, settings_for: Any, requests_to_send: Any) -> None:
    server = serve(reply(503), OK)
    send(settings_for(server, requests_per_second=0.01), requests_to_send.status)
    assert len(send.sleeps) == 2
    assert send.sleeps[1] == pytest.approx(100, abs=2)


def test_an_idle_connection_outlives_the_longest_wait_between_two_polls() -> None:
    assert async_client.KEEP_ALIVE >= 2 * wait_policy.LONGEST_WAIT
