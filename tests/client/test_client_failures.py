"""What goes wrong on the wire: both clients raise the same error with the same text."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from airflow_agent_tasks.client.async_client import AsyncClient
from airflow_agent_tasks.client.settings import ClientSettings
from airflow_agent_tasks.errors import (
    AgentTaskConfigurationError,
    AgentTaskInsecureError,
    AgentTaskReplyError,
    AgentTaskUnavailableError,
    AgentTaskUncertainError,
)
from airflow_agent_tasks.services.http import MAX_BODY_BYTES
from lab.benchmarks.tls_certificate import write_certificate
from tests.raw_server import LONGEST_WAIT, Exchange, RawServer, cut, drip, head, reply, silence

PATIENCE = 0.4
LARGE = 50 * 1024 * 1024
#: What the kernel may hold of a body that nobody reads.
SOCKET_BUFFERS = 16 * 1024 * 1024

CUT = "closed the connection before the response was complete"
SLOW = f"did not respond within {PATIENCE:g} s"


def drip_after(data: bytes) -> Callable[[Exchange], None]:
    def answer(exchange: Exchange) -> None:
        exchange.send(data)
        drip(b"5\r\nabcde\r\n" * 8)(exchange)

    return answer


def pour_after(data: bytes) -> Callable[[Exchange], None]:
    def answer(exchange: Exchange) -> None:
        exchange.send(data)
        for _ in range(LARGE // 65536):
            exchange.send(b" " * 65536)

    return answer


def two_lengths() -> bytes:
    return head(content_length="7").replace(b"\r\n\r\n", b"\r\nContent-Length: 9\r\n\r\n") + b'{"a":1}'


UNANSWERED: dict[str, tuple[Any, str]] = {
    "cut before the reply": (cut(), CUT),
    "cut in the status line": (cut(b"HTTP/1.1 2"), CUT),
    "cut in the body": (cut(head(content_length="100") + b'{"status"'), CUT),
    "cut in a chunk": (cut(head(transfer_encoding="chunked") + b"64\r\nhalf"), CUT),
    "no HTTP at all": (cut(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), CUT),
    "chunked garbage": (cut(head(transfer_encoding="chunked") + b"zz\r\nabc\r\n"), CUT),
    "bad gzip": (reply(200, b"this is no gzip", content_encoding="gzip"), CUT),
    "two lengths": (cut(two_lengths()), CUT),
    "no reply in time": (silence, SLOW),
    "a body that drips": (drip_after(head(content_length="1000")), SLOW),
    "a body without length that drips": (drip_after(head()), SLOW),
    "a body that drips in chunks": (drip_after(head(transfer_encoding="chunked")), SLOW),
    "one chunk that drips": (drip_after(head(transfer_encoding="chunked") + b"ff\r\n"), SLOW),
}


def assert_same(outcomes: list[Any], kind: type[Exception], words: str) -> None:
    """Both are this kind of error, say the same, and show nothing of the library's own error."""
    for error in outcomes:
        assert type(error) is kind, repr(error)
        assert words in str(error)
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None
    assert str(outcomes[0]) == str(outcomes[1])


@pytest.mark.parametrize("name", UNANSWERED)
def test_a_status_request_without_a_response_may_be_retried(
    name: str, serve: Any, settings_for: Any, requests_to_send: Any, send_with_both: Any
) -> None:
    script, words = UNANSWERED[name]
    settings = settings_for(serve(script), **({"timeout": PATIENCE} if words is SLOW else {}))
    outcomes = send_with_both(settings, requests_to_send.status)
    assert_same(outcomes, AgentTaskUnavailableError, words)
    assert "get agent task 't1'" in str(outcomes[0])


@pytest.mark.parametrize("name", UNANSWERED)
def test_a_start_without_a_response_may_have_been_carried_out(
    name: str, serve: Any, settings_for: Any, requests_to_send: Any, send_with_both: Any
) -> None:
    script, words = UNANSWERED[name]
    settings = settings_for(serve(script), **({"timeout": PATIENCE} if words is SLOW else {}))
    outcomes = send_with_both(settings, requests_to_send.start)
    assert_same(outcomes, AgentTaskUncertainError, words)
    assert "may have been carried out" in str(outcomes[0])


def test_a_refused_connection_was_never_used(
    serve: Any, settings_for: Any, requests_to_send: Any, send_with_both: Any
) -> None:
    server = serve()
    server.close()
    outcomes = send_with_both(settings_for(server), requests_to_send.start)
    assert_same(outcomes, AgentTaskUnavailableError, f"no connection to 127.0.0.1:{server.port}")
    assert "connection 'c1'" in str(outcomes[0])


def test_an_unknown_host_was_never_reached(
    settings_for: Any, requests_to_send: Any, send_with_both: Any
) -> None:
    outcomes = send_with_both(settings_for("https://agents.invalid"), requests_to_send.start)
    assert_same(outcomes, AgentTaskUnavailableError, "no connection to agents.invalid")


def test_a_connection_that_is_not_taken_in_time_was_never_used(
    settings_for: Any, requests_to_send: Any, send_with_both: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        # The kernel completes one more connection than the backlog, and lets all further ones wait.
        address = listener.getsockname()
        with socket.create_connection(address), socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(address)
            settings = settings_for(f"http://127.0.0.1:{address[1]}", timeout=PATIENCE)
            outcomes = send_with_both(settings, requests_to_send.start)
    assert_same(outcomes, AgentTaskUnavailableError, f"no response within {PATIENCE / 2:g} s")


@pytest.mark.parametrize(
    "first",
    [
        head(content_length=str(LARGE)),
        head(),
        head(transfer_encoding="chunked") + b"%x\r\n" % LARGE,
        head(302, location="/elsewhere", content_length=str(LARGE)),
    ],
    ids=["with its length", "without length", "in one chunk", "of a redirect"],
)
def test_a_body_of_50_megabytes_is_not_read_on(
    first: bytes, serve: Any, settings_for: Any, requests_to_send: Any, send_with_both: Any
) -> None:
    server = serve(pour_after(first))
    outcomes = send_with_both(settings_for(server), requests_to_send.status)
    assert_same(outcomes, AgentTaskReplyError, f"exceeds {MAX_BODY_BYTES} bytes")
    assert server.most_bytes_sent < MAX_BODY_BYTES + SOCKET_BUFFERS


def test_what_unpacks_to_50_megabytes_is_not_unpacked_whole(
    serve: Any, settings_for: Any, requests_to_send: Any, send_with_both: Any
) -> None:
    import gzip

    server = serve(reply(200, gzip.compress(b" " * LARGE), content_encoding="gzip"))
    outcomes = send_with_both(settings_for(server), requests_to_send.status)
    assert_same(outcomes, AgentTaskReplyError, f"exceeds {MAX_BODY_BYTES} bytes")


@pytest.mark.parametrize("location", ["{other}/agent/tasks/t1", "http://[", "ftp://example.com/"])
def test_a_redirect_is_returned_and_not_followed(
    location: str, serve: Any, settings_for: Any, requests_to_send: Any, send_with_both: Any
) -> None:
    other = serve()
    server = serve(reply(307, location=location.format(other=other.url)))
    outcomes = send_with_both(settings_for(server), requests_to_send.status)
    assert [outcome.status for outcome in outcomes] == [307, 307]
    assert len(server.requests) == 2
    assert other.connections == 0


@pytest.fixture
def tls_server(tls: ssl.SSLContext, serve: Any) -> RawServer:
    server: RawServer = serve(tls=tls)
    return server


def test_an_untrusted_certificate_is_rejected(
    tls_server: RawServer, settings_for: Any, requests_to_send: Any, send_with_both: Any
) -> None:
    outcomes = send_with_both(settings_for(tls_server), requests_to_send.start, retries=True)
    assert_same(outcomes, AgentTaskInsecureError, "certificate could not be verified")
    assert "extra field 'verify' of connection 'c1'" in str(outcomes[0])
    assert tls_server.requests == []
    assert tls_server.connections == 2


def test_a_certificate_that_changes_does_not_settle_an_uncertain_attempt(
    tls_server: RawServer,
    certificate: Path,
    settings_for: Any,
    requests_to_send: Any,
    send: Any,
    tmp_path: Path,
) -> None:
    another = tmp_path / "another.pem"
    write_certificate(another)
    tls_server.answer(lambda _: cast("ssl.SSLContext", tls_server.tls).load_cert_chain(another))
    with pytest.raises(AgentTaskUncertainError, match="An earlier attempt got no clear response"):
        send(settings_for(tls_server, verify=str(certificate)), requests_to_send.keyed_start)
    assert len(tls_server.requests) == 1


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("source", ["verify", "environment", "not verified"])
def test_a_certificate_of_a_ca_of_our_own_is_accepted(
    source: str,
    tls_server: RawServer,
    certificate: Path,
    settings_for: Any,
    requests_to_send: Any,
    send_with_both: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verify: bool | str = {"verify": str(certificate), "environment": True, "not verified": False}[source]
    if source == "environment":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    outcomes = send_with_both(settings_for(tls_server, verify=verify), requests_to_send.status)
    assert [outcome.status for outcome in outcomes] == [200, 200]


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_verify_false_overrides_the_environment(
    tls_server: RawServer,
    settings_for: Any,
    requests_to_send: Any,
    send_with_both: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import requests

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", requests.certs.where())
    outcomes = send_with_both(settings_for(tls_server, verify=False), requests_to_send.status)
    assert [outcome.status for outcome in outcomes] == [200, 200]


def test_a_plain_port_does_not_speak_tls(
    serve: Any, settings_for: Any, requests_to_send: Any, send_with_both: Any
) -> None:
    server = serve()
    settings = settings_for(server.url.replace("http:", "https:"))
    outcomes = send_with_both(settings, requests_to_send.start)
    assert_same(outcomes, AgentTaskInsecureError, "No secure connection")


@pytest.mark.parametrize("is_read_by_then", [True, False])
def test_what_arrives_at_an_idle_connection_is_no_response_to_the_next_request(
    is_read_by_then: bool, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    is_read, is_sent = threading.Event(), threading.Event()

    def answer_twice(exchange: Exchange) -> None:
        exchange.send(reply(200, {"status": "running"}))
        is_read.wait(LONGEST_WAIT)
        exchange.send(reply(200, {"status": "failed"}))
        is_sent.set()
        exchange.pause()

    async def send() -> list[Any]:
        client = await AsyncClient.open(settings_for(serve(answer_twice, reply(200, {"status": "queued"}))))
        try:
            first = await client.send(requests_to_send.status)
            is_read.set()
            if is_read_by_then:
                await asyncio.to_thread(is_sent.wait, LONGEST_WAIT)
                await asyncio.sleep(0.05)  # the event loop reads it
            else:
                is_sent.wait(LONGEST_WAIT)
            return [first.to_json(), (await client.send(requests_to_send.status)).to_json()]
        finally:
            await client.close()

    assert asyncio.run(send()) == [{"status": "running"}, {"status": "queued"}]


@pytest.mark.parametrize("script", ["cut", "silent"])
def test_a_handshake_that_is_not_finished_sent_nothing(
    script: str, settings_for: Any, requests_to_send: Any, send_with_both: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        taken: list[socket.socket] = []

        def take() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                connection.recv(1)
                taken.append(connection)
                if script == "cut":
                    connection.close()

        thread = threading.Thread(target=take)
        thread.start()
        settings = settings_for(f"https://127.0.0.1:{port}", timeout=PATIENCE)
        outcomes = send_with_both(settings, requests_to_send.start)
        thread.join()
        for connection in taken:
            connection.close()
    assert_same(outcomes, AgentTaskUnavailableError, f"no connection to 127.0.0.1:{port}")


@pytest.mark.parametrize("content", [None, "", "this is no certificate"])
def test_a_ca_file_that_cannot_be_read_is_named(
    content: str | None,
    tmp_path: Path,
    tls_server: RawServer,
    settings_for: Any,
    requests_to_send: Any,
    send_with_both: Any,
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    outcomes = send_with_both(settings_for(tls_server, verify=str(path)), requests_to_send.status)
    assert_same(
        outcomes, AgentTaskConfigurationError, "CA file set in the extra field 'verify' of connection 'c1'"
    )
    assert tls_server.connections == 0


@pytest.mark.parametrize("key", ["", "sk_a\nb", "sk_a\r\nX-Evil: 1", "sk a", "sk_ä", "sk_a\x00", "\tsk_a"])
def test_an_impossible_key_is_rejected_and_not_shown(key: str) -> None:
    with pytest.raises(AgentTaskConfigurationError, match="password field") as caught:
        ClientSettings(base_url="https://api.example.com", api_key=key, source="connection 'c1'")
    assert not key or key not in str(caught.value)
    assert "connection 'c1'" in str(caught.value)


@pytest.mark.parametrize(
    ("proxy", "is_usable"),
    [
        ("http://proxy.example.com:3128", True),
        ("https://user:secret@proxy.example.com", True),
        ("socks5://proxy.example.com:1080", False),
        ("proxy.example.com:3128", False),
        ("socks5://user:secret@proxy.example.com", False),
        ("ftp://proxy.example.com", False),
        ("http://", False),
        ("http://proxy.example.com:port", False),
    ],
)
def test_a_proxy_is_an_http_address(proxy: str, is_usable: bool, settings_for: Any) -> None:
    if is_usable:
        settings_for("https://api.example.com", proxy=proxy)
        return
    with pytest.raises(AgentTaskConfigurationError, match="'proxy' of connection 'c1'") as caught:
        settings_for("https://api.example.com", proxy=proxy)
    assert "secret" not in str(caught.value)


HOSTS = {
    "http://127.0.0.1:8080": True,
    "http://127.8.8.8": True,
    "http://localhost:1": True,
    "HTTP://LOCALHOST": True,
    "http://[::1]:8080": True,
    "https://10.0.0.1": True,
    "https://example.com/some/base": True,
    "http://10.0.0.1": False,
    "http://example.com": False,
    "http://127.0.0.1.example.com": False,
    "http://localhost.example.com": False,
    "http://127.0.0.1@example.com": False,
    "https://user:secret@example.com": False,
    "https://user@example.com": False,
    "example.com": False,
    "//example.com": False,
    "ftp://example.com": False,
    "file:///etc/passwd": False,
    "https://": False,
    "https://example.com:port": False,
    "https://example.com:99999": False,
    "https://example.com?key=1": False,
    "https://example.com#part": False,
    "https://exa mple.com": False,
    "https://example.com\nx": False,
    "http://[::1": False,
    "": False,
}


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_is_https_or_this_machine(host: str, settings_for: Any) -> None:
    if HOSTS[host]:
        settings_for(host)
        return
    with pytest.raises(AgentTaskConfigurationError, match="The host of connection 'c1'") as caught:
        settings_for(host)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["http://10.0.0.1", "http://example.com", "http://127.0.0.1.example.com"])
def test_another_host_may_be_called_over_http_if_that_is_intended(host: str, settings_for: Any) -> None:
    assert settings_for(host, allow_insecure_http=True).base_url == host


def test_a_server_on_the_ipv6_loopback_is_reached(
    serve: Any, settings_for: Any, requests_to_send: Any, send_with_both: Any
) -> None:
    server = serve(host="::1")
    outcomes = send_with_both(settings_for(server), requests_to_send.status)
    assert [outcome.status for outcome in outcomes] == [200, 200]
