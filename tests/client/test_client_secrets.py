"""What a client sends to whom, and what it must never show."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import pytest

from airflow_agent_tasks.errors import AgentTaskError
from tests.raw_server import cut, reply

OK = reply(200, {"status": "running"})


@pytest.fixture
def key(settings_for: Any) -> str:
    api_key: str = settings_for("https://api.example.com").api_key
    return api_key


def test_a_request_has_the_expected_headers(
    send: Any, serve: Any, settings_for: Any, requests_to_send: Any, key: str
) -> None:
    server = serve(OK)
    send(settings_for(server), requests_to_send.keyed_start)
    received = server.requests[0]
    assert (received.method, received.target) == ("POST", "/agent/tasks")
    assert received.json == {"instruction": "Go.", "idempotency_key": "k1"}
    assert received.headers["authorization"] == f"Bearer {key}"
    assert received.headers["accept"] == "application/json"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["user-agent"].startswith("airflow-agent-tasks")
    assert received.headers["host"] == f"127.0.0.1:{server.port}"
    assert "cookie" not in received.headers


def test_a_request_without_a_body_has_none(
    send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server = serve(OK)
    send(settings_for(server), requests_to_send.status, requests_to_send.pause)
    assert [received.body for received in server.requests] == [b"", b""]
    assert server.requests[1].headers["content-length"] == "0"


@pytest.mark.parametrize("base", ["", "/", "/gateway/v1", "/gateway/v1/"])
def test_a_base_url_may_have_a_path(
    base: str, send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server = serve(OK)
    send(settings_for(server.url + base), requests_to_send.status)
    assert server.requests[0].target == base.rstrip("/") + "/agent/tasks/t1"


@pytest.mark.parametrize("task_id", ["a/b", "a b", "a%2Fb", "ä€", "a\nb", "a?b#c", "..a", "a~b-c_d.e", "%"])
def test_a_quoted_id_reaches_the_service_as_it_was_quoted(
    task_id: str, send: Any, serve: Any, settings_for: Any
) -> None:
    from urllib.parse import unquote

    from airflow_agent_tasks.services.lightcone import LightconeDialect

    server = serve(OK)
    request = LightconeDialect().build_status(task_id)
    send(settings_for(server), request)
    assert server.requests[0].target == request.path
    assert unquote(server.requests[0].target.removeprefix("/agent/tasks/")) == task_id


def test_the_settings_do_not_show_the_key_or_the_proxy(settings_for: Any, key: str) -> None:
    settings = settings_for("https://api.example.com", proxy="http://user:pass-word@proxy.example.com")
    for text in (repr(settings), str(settings), settings.host, settings.source):
        assert key not in text
        assert "pass-word" not in text


@pytest.mark.parametrize("where", ["the body", "the body of a refusal", "a cut body", "a header"])
def test_a_key_that_the_service_echoes_is_blotted_out(
    where: str, send: Any, serve: Any, settings_for: Any, requests_to_send: Any, key: str
) -> None:
    echo = json.dumps({"error": f"bad key {key}", "status": f"{key}{key}"})
    server = serve(
        {
            "the body": reply(200, echo),
            "the body of a refusal": reply(401, echo),
            "a cut body": cut(reply(200, echo, content_length="1000")),
            "a header": reply(200, "no JSON", kind=f"text/{key}", x_echo=f"Bearer {key}"),
        }[where]
    )
    try:
        shown = repr(send(settings_for(server), requests_to_send.status, retries=False))
        assert "***" in shown
    except AgentTaskError as error:
        shown = "".join(traceback.format_exception(error))
    assert key not in shown


@pytest.mark.parametrize("user", ["login somebody password netrc-password", "login somebody"])
def test_the_netrc_file_is_not_read(
    user: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    send: Any,
    serve: Any,
    settings_for: Any,
    requests_to_send: Any,
    key: str,
) -> None:
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 {user}\ndefault {user}\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    server = serve(OK)
    send(settings_for(server), requests_to_send.status)
    assert server.requests[0].headers["authorization"] == f"Bearer {key}"


def test_cookies_are_not_kept(send: Any, serve: Any, settings_for: Any, requests_to_send: Any) -> None:
    server = serve(reply(200, set_cookie="session=abc; Path=/"), OK)
    send(settings_for(server), requests_to_send.status, requests_to_send.status)
    assert len(server.requests) == 2
    assert "cookie" not in server.requests[1].headers


def test_one_connection_serves_many_requests(
    send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server = serve(OK, reply(200, "[]"), reply(404, "gone"), reply(204, b""))
    send(settings_for(server), *[requests_to_send.status] * 5)
    assert (len(server.requests), server.connections) == (5, 1)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_the_proxy_of_the_environment_is_used(
    name: str,
    scheme: str,
    monkeypatch: pytest.MonkeyPatch,
    send: Any,
    serve: Any,
    settings_for: Any,
    requests_to_send: Any,
) -> None:
    proxy = serve(OK)
    monkeypatch.setenv(name, f"{scheme}127.0.0.1:{proxy.port}")
    settings = settings_for("http://agents.invalid", allow_insecure_http=True)
    assert send(settings, requests_to_send.status).status == 200
    assert proxy.requests[0].target == "http://agents.invalid/agent/tasks/t1"


@pytest.mark.parametrize("hosts", ["127.0.0.1", "example.com,127.0.0.0/8", "*"])
def test_no_proxy_is_heeded(
    hosts: str,
    monkeypatch: pytest.MonkeyPatch,
    send: Any,
    serve: Any,
    settings_for: Any,
    requests_to_send: Any,
) -> None:
    proxy, server = serve(OK), serve(OK)
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", hosts)
    send(settings_for(server), requests_to_send.status)
    assert (proxy.connections, len(server.requests)) == (0, 1)


def test_the_proxy_of_the_connection_comes_before_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    proxy, other = serve(OK), serve(OK)
    monkeypatch.setenv("HTTP_PROXY", other.url)
    with_user = proxy.url.replace("//", "//somebody:pass-word@")
    settings = settings_for("http://agents.invalid", allow_insecure_http=True, proxy=with_user)
    send(settings, requests_to_send.status)
    assert other.connections == 0
    assert proxy.requests[0].headers["proxy-authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    "script",
    [reply(status) for status in (302, 404, 407, 502, 503)]
    + [cut(), cut(b"HTTP/1.1 2"), cut(b"SSH-2.0\r\n\r\n")],
)
def test_a_proxy_that_makes_no_tunnel_sent_nothing(
    script: Any, serve: Any, settings_for: Any, requests_to_send: Any, send_with_both: Any, key: str
) -> None:
    proxy = serve(script)
    settings = settings_for("https://agents.invalid", proxy=proxy.url)
    outcomes = send_with_both(settings, requests_to_send.start)
    assert [received.method for received in proxy.requests] == ["CONNECT", "CONNECT"]
    assert all("authorization" not in received.headers for received in proxy.requests)
    assert all("no connection to agents.invalid" in str(outcome) for outcome in outcomes), outcomes
    assert str(outcomes[0]) == str(outcomes[1])


def test_a_proxy_that_cannot_be_reached_sent_nothing(
    serve: Any, settings_for: Any, requests_to_send: Any, send_with_both: Any
) -> None:
    proxy = serve()
    proxy.close()
    for url in ("https://agents.invalid", "http://127.0.0.1:9"):
        outcomes = send_with_both(settings_for(url, proxy=proxy.url), requests_to_send.start)
        assert all("no connection to" in str(outcome) for outcome in outcomes), outcomes
        assert str(outcomes[0]) == str(outcomes[1])


def test_an_unusable_proxy_of_the_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, settings_for: Any, requests_to_send: Any, send_with_both: Any
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://user:pass-word@proxy.example.com")
    outcomes = send_with_both(settings_for("https://agents.invalid"), requests_to_send.start)
    assert all("HTTPS_PROXY" in str(outcome) and "pass-word" not in str(outcome) for outcome in outcomes)
    assert str(outcomes[0]) == str(outcomes[1])
