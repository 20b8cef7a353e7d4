"""What the plugin's endpoints respond to whatever may arrive: a real API server, real sockets."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from itsdangerous import TimestampSigner
from pytest_mock import MockerFixture
from sqlalchemy.exc import OperationalError

from airflow_agent_tasks.airflow_compat import form_rows, required_action, worker_request_signature
from airflow_agent_tasks.airflow_compat.worker_request_signature import REFUSAL
from airflow_agent_tasks.plugin import signed_orders
from lab.fuzz.route_requests import ABSURD_TIMES, HEALTH, METHODS, ODD_VALUES, PLUGIN_PATHS, sign_at

KEY = "a-key-of-the-tests"
ID = "00000000-0000-7000-8000-000000000000"
SHOW = {
    "do": "show",
    "task_instance_id": ID,
    "question_id": "1-x",
    "subject": "Question 1",
    "body": "Which?",
    "options": ["Send"],
    "params": {},
    "assigned_users": [{"id": "7", "name": "Ada"}],
    "reopen": False,
}
ORDERS = (
    SHOW,
    {"do": "read", "task_instance_id": ID, "form_id": ID},
    {"do": "close", "task_instance_id": ID},
)
#: Fields whose type is not the business of the API server, and any text.
FREE = {"params", "form_id"}


@pytest.fixture(autouse=True)
def no_traceback(caplog: Any, capfd: Any) -> Iterator[None]:
    """Check that nothing leaves a traceback in the server's log."""
    yield
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())


def send(server: str, order: Any, path: str = required_action.PATH, token: str | None = None) -> Any:
    token = worker_request_signature.sign(KEY, order) if token is None else token
    headers = {"Authorization": f"Bearer {token}".encode("latin-1")}
    body = json.dumps(order)
    return requests.post(server + path, data=body, headers=headers, timeout=30)  # type: ignore[arg-type]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order["do"])
def test_a_malformed_order_gets_a_plain_refusal(api_server: str, order: dict[str, Any]) -> None:
    assert send(api_server, order).status_code == 409  # well-formed, for a task that is not there
    for name in order:
        missing = {key: value for key, value in order.items() if key != name}
        assert send(api_server, missing).status_code == (409 if name == "form_id" else 400)
        for value in ODD_VALUES:
            response = send(api_server, {**order, name: value})
            assert response.status_code in (
                (400, 409) if isinstance(value, type(order[name])) else (400,)
            ) or (name in FREE and response.status_code == 409), (name, value)
            if response.status_code == 400:
                assert response.json()["detail"].startswith("The order is malformed: ")
                assert len(response.json()["detail"]) < 300


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "a\udfffb"])
@pytest.mark.parametrize("name", ["question_id", "subject", "body", "options", "assigned_users"])
def test_text_that_a_database_does_not_store_is_refused(api_server: str, name: str, text: str) -> None:
    value: Any = {"options": [text], "assigned_users": [{"id": "7", "name": text}]}.get(name, text)
    assert send(api_server, {**SHOW, name: value}).status_code in (
        400,
        409 if name == "assigned_users" else 400,
    )


@pytest.mark.parametrize("seconds", ABSURD_TIMES)
@pytest.mark.parametrize("key", [KEY, "another key"])
@pytest.mark.parametrize("path", [required_action.PATH, HEALTH])
def test_an_absurd_time_in_a_token_is_no_signature(
    api_server: str, seconds: int, key: str, path: str
) -> None:
    response = send(api_server, SHOW, path, sign_at(seconds, key, SHOW))
    assert (response.status_code, response.json()) == (403, {"detail": REFUSAL})


def test_a_timestamp_that_no_calendar_has_is_no_signature(mocker: MockerFixture) -> None:
    mocker.patch.object(TimestampSigner, "get_timestamp", return_value=10**15)
    token = worker_request_signature.sign(KEY, SHOW)
    assert worker_request_signature.is_signed(KEY, SHOW, token) is False


def test_nothing_is_read_of_an_order_before_its_signature(api_server: str, mocker: MockerFixture) -> None:
    receive = mocker.spy(signed_orders, "read_body")
    for token in ("", "x", worker_request_signature.sign("another key", SHOW), "\xff", "." * 1_000):
        response = send(api_server, SHOW, token=token)
        assert (response.status_code, response.json()) == (403, {"detail": REFUSAL})
    assert receive.call_count == 0


@pytest.mark.parametrize("depth", [100, 400, 900, 3_000, 50_000])
@pytest.mark.parametrize("name", ["params", "subject", "more"])
def test_deep_nesting_gets_a_plain_response(api_server: str, depth: int, name: str) -> None:
    body = json.dumps(SHOW)[:-1] + f', "{name}": {{"x": {"[" * depth + "]" * depth}}}}}'
    try:
        token = worker_request_signature.sign(KEY, json.loads(body))
    except RecursionError:
        token = worker_request_signature.sign(KEY, SHOW)
    headers = {"Authorization": f"Bearer {token}"}
    response = requests.post(api_server + required_action.PATH, data=body, headers=headers, timeout=30)
    assert response.status_code in (400, 403, 409, 503)


def test_a_database_that_fails_is_no_fault_of_the_server(
    api_server: str, mocker: MockerFixture, caplog: Any
) -> None:
    failure = OperationalError(
        "SELECT secret", {"id": "secret"}, Exception("the database is away\nforged line")
    )
    mocker.patch.object(form_rows, "create_session", side_effect=failure)
    response = send(api_server, SHOW)
    assert response.status_code == 503
    assert response.json() == {"detail": "The order was not carried out; see the API server's log."}
    (line,) = [record.getMessage() for record in caplog.records if record.name == signed_orders.__name__]
    assert line == "Could not carry out an order from a worker: OperationalError"


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("sent", [0.0, 0.3, 0.99])
def test_a_client_that_hangs_up_in_the_middle_leaves_nothing_behind(
    api_server: str, signed: bool, sent: float
) -> None:
    body, token = json.dumps(SHOW), worker_request_signature.sign(KEY, SHOW) if signed else "x"
    with connect(api_server) as client:
        client.sendall(build_head(token, len(body)) + body[: int(len(body) * sent)].encode())
        if not signed:
            assert client.recv(100).startswith(b"HTTP/1.1 403")
    assert send(api_server, SHOW).status_code == 409  # the server goes on


def test_an_order_that_does_not_arrive_is_not_waited_for(api_server: str, mocker: MockerFixture) -> None:
    mocker.patch.object(signed_orders, "MAX_SECONDS", 0.3)
    with connect(api_server) as client:
        client.settimeout(20)
        client.sendall(build_head(worker_request_signature.sign(KEY, SHOW), 1_000) + b"{")
        assert client.recv(100).startswith(b"HTTP/1.1 403")


def connect(server: str) -> socket.socket:
    address = urlsplit(server)
    return socket.create_connection((address.hostname, address.port))  # type: ignore[arg-type]


def build_head(token: str, length: int) -> bytes:
    lines = [f"POST {required_action.PATH} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}"]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", [path for path in PLUGIN_PATHS if path.isprintable()])
def test_what_does_not_exist_gets_a_plain_response(api_server: str, method: str, path: str) -> None:
    response = requests.request(method, api_server + path, timeout=30, allow_redirects=False)
    assert response.status_code in (400, 404, 405)
    assert len(response.content) < 100


@pytest.mark.parametrize("path", [required_action.PATH, HEALTH])
@pytest.mark.parametrize("order", [{}, {"do": 5}, {"do": "no"}, {"do": None}, {"do": ["show"]}, {"do": "\0"}])
def test_an_unknown_order_is_refused(api_server: str, path: str, order: Any) -> None:
    assert send(api_server, order, path).status_code == 400


def test_the_order_of_one_endpoint_is_refused_at_the_other(api_server: str) -> None:
    assert send(api_server, SHOW, HEALTH).status_code == 400
    assert send(api_server, {"do": "report health"}).status_code == 400
    assert send(api_server, {"do": "report health"}, HEALTH).status_code == 200
