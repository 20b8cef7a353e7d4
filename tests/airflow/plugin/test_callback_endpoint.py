"""What the API server answers to a callback: the same to everyone, and before it looks at anything."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import pytest
import requests
from itsdangerous import URLSafeSerializer
from pytest_mock import MockerFixture

from airflow_agent_tasks.callbacks.settings import PATH
from airflow_agent_tasks.callbacks.token import MAX_TOKEN, make_token
from airflow_agent_tasks.plugin import callback_endpoint, callback_secrets
from airflow_agent_tasks.plugin.callback_endpoint import MAX_BODY, CallbackReceiver
from airflow_agent_tasks.plugin.wake_ups import WakeUps
from lab.cluster.processes import wait_until
from tests.airflow.conftest import CALLBACK_SECRETS, finish_stops
from tests.airflow.waiting_rows import Statements, put, read_states, start, token_of

#: Those of the API server.
SECRETS = CALLBACK_SECRETS.split(",")
METHODS = ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "NONSENSE"]


@pytest.fixture
def receiver(monkeypatch: Any, mocker: MockerFixture) -> CallbackReceiver:
    """A receiver in front of no server."""
    monkeypatch.setattr(callback_endpoint, "get_secrets", lambda: SECRETS)
    return CallbackReceiver(mocker.Mock())


@pytest.fixture
def requested(mocker: MockerFixture) -> Any:
    """The requests to wake a task; nothing is woken."""
    return mocker.patch.object(WakeUps, "request")


@pytest.fixture
def row(run_dag: Any, api_server: str) -> Any:
    return start(run_dag)


def sign(token: Any, *, seconds: float = 60.0, secrets: list[str] = SECRETS) -> str:
    return make_token(secrets, token, expires_at=time.time() + seconds)


def send(api_server: str, token: str, method: str = "POST", **arguments: Any) -> requests.Response:
    return requests.request(method, f"{api_server}{PATH}{quote(token, safe='')}", timeout=30, **arguments)


def settle(api_server: str) -> None:
    """Wait for what earlier calls cause after their response."""
    send(api_server, "", "GET")
    finish_stops()


def count(requested: Any, api_server: str) -> int:
    """Return how often a task was to be woken."""
    settle(api_server)
    return int(requested.call_count)


def describe(response: requests.Response) -> Any:
    """Return what a caller sees of a response."""
    headers = {name.lower(): value for name, value in response.headers.items() if name.lower() != "date"}
    return response.status_code, response.reason, headers, response.content


def build_tokens(row: Any) -> dict[str, str]:
    """Return a token of each kind that a caller may send."""
    token = token_of(row)
    content = [token.task_instance_id.hex, token.submission, int(time.time()) + 60]
    options = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    good = sign(token)
    return {
        "good": good,
        "of the old secret": sign(token, secrets=SECRETS[1:]),
        "unknown task": sign(replace(token, task_instance_id=uuid4())),
        "other submission": sign(replace(token, submission="0" * 16)),
        "expired": sign(token, seconds=-1),
        "forged": sign(token, secrets=["another"]),
        "other salt": str(URLSafeSerializer(SECRETS[0], salt="x", signer_kwargs=options).dumps(content)),
        "truncated": good[:-3],
        "changed": good[:5] + ("A" if good[5] != "A" else "B") + good[6:],
        "longer": f"{good}/more",
        "empty": "",
        "too long": "x" * (MAX_TOKEN + 1),
        "no text": "\udcff\udcfe".encode("utf-8", "surrogateescape").decode("latin-1"),
        "dots": "../health",
        "zero": "\0",
        "two lines": f"{good}\n",
    }


@pytest.mark.parametrize("state", ["deferred", "awaiting_input", "running", "success", None])
def test_every_call_gets_the_same_response(
    row: Any, api_server: str, requested: Any, state: str | None
) -> None:
    put(row, state)
    tokens = build_tokens(row)
    seen = {name: describe(send(api_server, token)) for name, token in tokens.items()}
    status, _, headers, body = seen["good"]
    assert (status, body) == (202, b"")
    assert headers["content-length"] == "0"
    assert {name: response for name, response in seen.items() if response != seen["good"]} == {}
    accepted = ["good", "of the old secret", "unknown task", "other submission"]
    assert count(requested, api_server) == len(accepted)


def test_a_good_token_wakes_its_task(row: Any, api_server: str) -> None:
    assert send(api_server, sign(token_of(row)), json={"status": "completed"}).status_code == 202
    assert wait_until(lambda: read_states(row) == ["scheduled"], timeout=30)


def test_no_other_token_wakes_a_task_and_a_forged_one_causes_no_statement(row: Any, api_server: str) -> None:
    tokens = build_tokens(row)
    known = {name: tokens.pop(name) for name in ("unknown task", "other submission")}
    del tokens["good"], tokens["of the old secret"]
    with Statements() as statements:
        for token in tokens.values():
            assert send(api_server, token).status_code == 202
        settle(api_server)
        assert statements == []
        for token in known.values():
            assert send(api_server, token).status_code == 202
        settle(api_server)
    assert statements
    assert read_states(row) == ["deferred"]


@pytest.mark.parametrize("method", METHODS)
def test_other_methods_are_refused(row: Any, api_server: str, requested: Any, method: str) -> None:
    seen = [describe(send(api_server, token, method)) for token in build_tokens(row).values()]
    assert all(response == seen[0] for response in seen)
    # The server itself refuses what is no method at all.
    assert seen[0][0] == (400 if method == "NONSENSE" else 404)
    assert count(requested, api_server) == 0


@pytest.mark.parametrize("path", ["/agent-tasks/callback", "/agent-tasks/Callback/x", "/callback/x"])
def test_nothing_is_received_elsewhere(api_server: str, requested: Any, path: str) -> None:
    assert requests.post(api_server + path, timeout=30).status_code in (404, 405)
    assert count(requested, api_server) == 0


@pytest.mark.parametrize("size", [0, 1, MAX_BODY, MAX_BODY + 1, 20 * MAX_BODY])
def test_a_body_is_thrown_away_whatever_its_size(
    row: Any, api_server: str, requested: Any, size: int
) -> None:
    tokens = build_tokens(row)
    responses = [call_raw(api_server, token, b"x" * size) for token in (tokens["good"], tokens["forged"])]
    assert responses[0] == responses[1]
    status, headers = responses[0]
    assert status == 202
    assert (headers.get("connection") == "close") is (size > MAX_BODY)
    assert count(requested, api_server) == 1


def call_raw(api_server: str, token: str, body: bytes) -> tuple[int, dict[str, str]]:
    """Send a request even if the server has already answered, and return the response."""
    address = urlsplit(api_server)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    connection.putrequest("POST", PATH + token)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    with suppress(OSError):  # it has answered, and closed
        connection.send(body)
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders() if name.lower() != "date"}
    connection.close()
    return response.status, headers


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 50_000, b"a=b&c=d", b"--x\r\n"])
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "text/plain; charset=x", ""])
def test_a_body_of_any_kind_will_do(
    row: Any, api_server: str, requested: Any, body: bytes, kind: str
) -> None:
    response = send(api_server, sign(token_of(row)), data=body, headers={"Content-Type": kind})
    assert response.status_code == 202
    assert count(requested, api_server) == 1


@pytest.mark.parametrize("kind", ["good", "forged"])
@pytest.mark.parametrize("head", ["Content-Length: 10", "Transfer-Encoding: chunked"])
def test_a_body_that_never_ends_is_given_up(
    row: Any, api_server: str, requested: Any, mocker: MockerFixture, kind: str, head: str
) -> None:
    mocker.patch.object(callback_endpoint, "MAX_SECONDS", 0.2)
    address = urlsplit(api_server)
    with socket.create_connection((address.hostname, address.port), timeout=30) as client:
        client.sendall(f"POST {PATH}{build_tokens(row)[kind]} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode())
        received = b""
        while piece := client.recv(65_536):
            received += piece
    assert received.startswith(b"HTTP/1.1 202 Accepted\r\n")
    assert b"connection: close" in received
    assert count(requested, api_server) == (kind == "good")


def test_a_caller_that_hangs_up_has_called(row: Any, api_server: str, requested: Any) -> None:
    address, token = urlsplit(api_server), sign(token_of(row))
    with socket.create_connection((address.hostname, address.port), timeout=30) as client:
        client.sendall(f"POST {PATH}{token} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{{".encode())
    assert wait_until(lambda: requested.call_count == 1, timeout=30)


def receive(
    receiver: CallbackReceiver, token: str, send: Callable[[Any], Any], chunks: Iterable[bytes] = (b"",)
) -> None:
    """Let the receiver take a call whose body never ends, unless its only chunk is empty."""
    body = iter(chunks)

    async def read_body() -> Any:
        chunk = next(body)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunk)}

    async def write(message: Any) -> None:
        send(message)

    scope = {"type": "http", "method": "POST", "headers": [], "path": PATH + token}
    asyncio.run(receiver(scope, read_body, write))


def test_no_more_of_a_body_is_read_than_is_allowed(receiver: CallbackReceiver, requested: Any) -> None:
    sent: list[Any] = []
    chunks = iter([b"x" * 1024] * 1_000)
    receive(receiver, "x", sent.append, chunks)
    assert len(list(chunks)) == 1_000 - MAX_BODY // 1024 - 1
    assert [message.get("status") for message in sent] == [202, None]
    assert (b"connection", b"close") in sent[0]["headers"]


def test_the_response_is_sent_before_the_token_is_looked_at(
    row: Any, receiver: CallbackReceiver, mocker: MockerFixture
) -> None:
    order: list[str] = []
    read_token = callback_endpoint.read_token

    def note_and_read(*arguments: Any, **more: Any) -> Any:
        order.append("token")
        return read_token(*arguments, **more)

    mocker.patch.object(callback_endpoint, "read_token", side_effect=note_and_read)
    mocker.patch.object(WakeUps, "request", side_effect=lambda token: order.append("wake"))
    receive(receiver, sign(token_of(row)), lambda message: order.append(message["type"]))
    assert order == ["http.response.start", "http.response.body", "token", "wake"]


def test_without_a_secret_no_call_wakes(
    row: Any, receiver: CallbackReceiver, requested: Any, monkeypatch: Any
) -> None:
    monkeypatch.setitem(vars(receiver), "_secrets", [])
    receive(receiver, sign(token_of(row)), lambda message: None)
    requested.assert_not_called()


def test_a_secret_that_cannot_be_read_is_reported_once(
    mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    mocker.patch.object(callback_secrets, "read_secrets", side_effect=OSError("the vault is away"))
    callback_secrets.get_secrets.cache_clear()
    assert [callback_secrets.get_secrets() for _ in range(2)] == [[], []]
    callback_secrets.get_secrets.cache_clear()
    (line,) = [one.getMessage() for one in caplog.records if one.name == callback_secrets.__name__]
    assert line == "Callbacks wake no tasks: their secret cannot be read (OSError)"


def test_a_path_prefix_comes_before_the_path_of_a_callback(
    receiver: CallbackReceiver, requested: Any
) -> None:
    sent: list[Any] = []
    for path in ("/airflow" + PATH + "x", PATH + "x"):
        scope = {"type": "http", "method": "POST", "headers": [], "path": path, "root_path": "/airflow"}
        asyncio.run(receiver(scope, end_body, note_in(sent)))
    assert [message["status"] for message in sent if "status" in message] == [202, 202]


async def end_body() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


def note_in(sent: list[Any]) -> Callable[[Any], Any]:
    async def write(message: Any) -> None:
        sent.append(message)

    return write


def test_airflow_logs_no_callback(api_server: str, capfd: pytest.CaptureFixture[str]) -> None:
    send(api_server, "a-token-of-the-tests")
    requests.get(f"{api_server}/a-page-of-the-tests", timeout=30)
    printed = capfd.readouterr().out
    assert "a-token-of-the-tests" not in printed
