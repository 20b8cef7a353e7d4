"""One deadline for a whole request, whatever part of it a service or a proxy draws out, in both clients."""

from __future__ import annotations

import contextlib
import gzip
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_agent_tasks.client.sync_client import SyncClient
from airflow_agent_tasks.errors import AgentTaskUnavailableError, AgentTaskUncertainError
from airflow_agent_tasks.services.http import Request
from airflow_agent_tasks.services.lightcone import LightconeDialect
from tests.raw_server import LONGEST_WAIT, Exchange, RawServer, head, reply, silence

PATIENCE = 0.4
#: Seconds after the deadline in which the caller gets control back, on a machine that is busy with others.
#: Without a deadline, each of these lasts for ``LONGEST_WAIT`` or for ever.
GRACE = 2.0
SLOW = f"did not respond within {PATIENCE:g} s"

CHUNKED = head(transfer_encoding="chunked")
PACKED = gzip.compress(b" " * 1_000_000 + b"{}", compresslevel=0)


def forever(first: bytes, piece: bytes) -> Callable[[Exchange], None]:
    """Send the first bytes, then the piece again and again, each time sooner than any timeout of a read."""

    def answer(exchange: Exchange) -> None:
        exchange.send(first)
        while True:
            exchange.pause(PATIENCE / 10)
            exchange.send(piece)

    return answer


#: Each part of a reply, drawn out for ever.
DRAWN_OUT: dict[str, Callable[[Exchange], None]] = {
    "nothing": silence,
    "the status line": forever(b"HTTP/1.1 200 ", b"O"),
    "header lines": forever(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
    "one header line": forever(b"HTTP/1.1 200 OK\r\nX-A: ", b"b"),
    "a folded header line": forever(b"HTTP/1.1 200 OK\r\nX-A: b\r\n", b" c\r\n"),
    "100 Continue": forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "102 Processing": forever(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "103 Early Hints": forever(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
    "a body with a length": forever(head(content_length="1000000"), b" "),
    "a body without a length": forever(head(), b" "),
    "chunks": forever(CHUNKED, b"1\r\n \r\n"),
    "one chunk": forever(CHUNKED + b"fffff\r\n", b" "),
    "the size of a chunk": forever(CHUNKED, b"0"),
    "the extension of a chunk": forever(CHUNKED + b"1;", b"a"),
    "trailers": forever(CHUNKED + b"0\r\n", b"X-A: b\r\n"),
    "a packed body": forever(head(content_encoding="gzip") + PACKED[:50_000], PACKED[50_000:50_010]),
    "the body of an error": forever(head(500, content_length="1000000"), b" "),
    "the body of a redirect": forever(head(302, content_length="1000000", location="/a"), b" "),
}


@contextlib.contextmanager
def in_time(times: int = 1) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < times * PATIENCE + GRACE


@pytest.mark.parametrize("name", DRAWN_OUT)
def test_no_part_of_a_reply_outlasts_the_deadline(
    name: str, send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    settings = settings_for(serve(DRAWN_OUT[name]), timeout=PATIENCE)
    with in_time(), pytest.raises(AgentTaskUncertainError, match=SLOW):
        send(settings, requests_to_send.start, retries=False)
    with in_time(), pytest.raises(AgentTaskUnavailableError, match=SLOW):
        send(settings, requests_to_send.status, retries=False)


@pytest.mark.parametrize("name", ["header lines", "a body with a length", "trailers"])
def test_nor_does_it_within_tls(
    name: str,
    send: Any,
    serve: Any,
    settings_for: Any,
    requests_to_send: Any,
    tls: ssl.SSLContext,
    certificate: Path,
) -> None:
    settings = settings_for(serve(DRAWN_OUT[name], tls=tls), timeout=PATIENCE, verify=str(certificate))
    with in_time(), pytest.raises(AgentTaskUncertainError, match=SLOW):
        send(settings, requests_to_send.start, retries=False)


@pytest.mark.parametrize(
    ("first", "piece"),
    [
        (b"HTTP/1.1 200 ", b"a"),
        (b"HTTP/1.1 200 OK\r\n", b"a"),
        (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
        (b"HTTP/1.1 407 Pay\r\n", b"X-A: b\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_a_proxys_reply_does_not(
    first: bytes, piece: bytes, send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    proxy = serve(forever(first, piece))
    settings = settings_for("https://agents.invalid", proxy=proxy.url, timeout=PATIENCE)
    with in_time(), pytest.raises(AgentTaskUnavailableError, match=r"no connection to agents\.invalid"):
        send(settings, requests_to_send.start, retries=False)
    assert [received.method for received in proxy.requests] == ["CONNECT"]


@pytest.mark.parametrize("send", ["sync"], indirect=True)
def test_a_proxys_reply_within_tls_does_not(
    send: Any,
    serve: Any,
    settings_for: Any,
    requests_to_send: Any,
    tls: ssl.SSLContext,
    certificate: Path,
) -> None:
    proxy = serve(forever(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"), tls=tls)
    settings = settings_for(
        "https://agents.invalid", proxy=proxy.url, timeout=PATIENCE, verify=str(certificate)
    )
    with in_time(), pytest.raises(AgentTaskUnavailableError, match="no connection"):
        send(settings, requests_to_send.start, retries=False)
    assert [received.method for received in proxy.requests] == ["CONNECT"]


@contextlib.contextmanager
def listen(serve_connection: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve each connection in a thread; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=run, args=(connection,), daemon=True).start()

        def run(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                connection.settimeout(LONGEST_WAIT)
                serve_connection(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def drip_handshake(connection: socket.socket) -> None:
    connection.recv(1)
    connection.sendall(b"\x16\x03\x03\x3f\xff")  # a record of 16 kB
    while True:
        connection.sendall(b"\x02")
        time.sleep(PATIENCE / 10)


@pytest.mark.parametrize("has_proxy", [False, True], ids=["the service's", "a proxy's"])
def test_a_handshake_does_not(has_proxy: bool, send: Any, settings_for: Any, requests_to_send: Any) -> None:
    with listen(drip_handshake) as port:
        url = f"https://127.0.0.1:{port}"
        settings = settings_for("https://agents.invalid", proxy=url) if has_proxy else settings_for(url)
        with in_time(), pytest.raises(AgentTaskUnavailableError, match="no connection"):
            send(replace(settings, timeout=PATIENCE), requests_to_send.start, retries=False)


def test_a_request_that_is_not_read_does_not(send: Any, settings_for: Any) -> None:
    start = LightconeDialect().build_start({"instruction": "a" * 8_000_000})
    with listen(lambda connection: time.sleep(2 * PATIENCE)) as port:
        settings = settings_for(f"http://127.0.0.1:{port}", timeout=PATIENCE)
        with in_time(), pytest.raises(AgentTaskUncertainError, match=SLOW):
            send(settings, start, retries=False)


def test_a_look_up_that_hangs_does_not(
    send: Any, settings_for: Any, requests_to_send: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_ended = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: has_ended.wait(LONGEST_WAIT) and [])
    settings = settings_for("https://agents.invalid", timeout=PATIENCE)
    with in_time(), pytest.raises(AgentTaskUnavailableError, match="no connection"):
        send(settings, requests_to_send.start, retries=False)
    has_ended.set()


@contextlib.contextmanager
def never_accept() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        with socket.create_connection(address), socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(address)
            yield address[1]


def give_addresses(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    """Let every host have an address for each of these ports."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


@pytest.mark.parametrize("send", ["sync"], indirect=True)
def test_many_addresses_that_do_not_answer_do_not(
    send: Any, settings_for: Any, requests_to_send: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with never_accept() as port:
        give_addresses(monkeypatch, *[port] * 10)
        settings = settings_for("http://agents.invalid", timeout=PATIENCE, allow_insecure_http=True)
        with in_time(), pytest.raises(AgentTaskUnavailableError, match="no connection"):
            send(settings, requests_to_send.start, retries=False)


@pytest.mark.parametrize("send", ["sync"], indirect=True)
def test_an_address_that_does_not_answer_leaves_time_for_the_next(
    send: Any, serve: Any, settings_for: Any, requests_to_send: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    with never_accept() as port:
        give_addresses(monkeypatch, port, server.port)
        settings = settings_for("http://agents.invalid", timeout=2.0, allow_insecure_http=True)
        assert send(settings, requests_to_send.status).status == 200


@pytest.mark.parametrize("status", [100, 102, 103, 110, 199])
def test_an_interim_response_is_passed_over(
    status: int, send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    interim = b"HTTP/1.1 %d Interim\r\nLink: </a>\r\n\r\n" % status
    server = serve(interim * 3 + reply(200, {"status": "running"}))
    response = send(settings_for(server), *[requests_to_send.status] * 2)
    assert (response.status, response.to_json()) == (200, {"status": "running"})
    assert server.connections == 1


def test_another_protocol_is_no_interim_response(
    send: Any, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    server = serve(reply(101, b"", content_length=None, upgrade="h2c", connection="Upgrade"))
    assert send(settings_for(server), requests_to_send.status, retries=False).status == 101


def test_an_earlier_deadline_does_not_end_a_later_request(
    serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    def answer_late(exchange: Exchange) -> None:
        exchange.pause(PATIENCE * 0.75)
        exchange.send(reply())

    server = serve(reply(), answer_late)
    client = SyncClient(settings_for(server, timeout=PATIENCE))
    client.send(requests_to_send.status)
    time.sleep(PATIENCE * 0.75)
    assert client.send(requests_to_send.status, retries=False).status == 200
    client.close()
    assert server.connections == 1


def test_each_thread_has_its_own_deadline(serve: Any, settings_for: Any, requests_to_send: Any) -> None:
    impatient = SyncClient(settings_for(serve(silence), timeout=PATIENCE))
    errors: list[Exception] = []

    def send_in_thread() -> None:
        try:
            impatient.send(requests_to_send.status, retries=False)
        except AgentTaskUnavailableError as error:
            errors.append(error)

    def answer_late(exchange: Exchange) -> None:
        exchange.pause(PATIENCE * 2)
        exchange.send(reply())

    patient = SyncClient(settings_for(serve(answer_late)))
    thread = threading.Thread(target=send_in_thread)
    with in_time(2):
        thread.start()
        assert patient.send(requests_to_send.status).status == 200
        thread.join()
    assert len(errors) == 1
    impatient.close()
    patient.close()


def test_a_request_in_a_signal_handler_has_its_own_deadline(
    serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    outer = SyncClient(settings_for(serve(forever(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n")), timeout=PATIENCE))

    def answer_late(exchange: Exchange) -> None:
        exchange.pause(PATIENCE * 2)  # the outer one ends meanwhile
        exchange.send(reply())

    inner = SyncClient(settings_for(serve(answer_late)))
    statuses: list[int] = []

    def handle(*_: object) -> None:
        statuses.append(inner.send(requests_to_send.status, retries=False).status)

    earlier = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE / 2)
    try:
        with in_time(3), pytest.raises(AgentTaskUnavailableError, match=SLOW):
            outer.send(requests_to_send.status, retries=False)
    finally:
        signal.signal(signal.SIGALRM, earlier)
    assert statuses == [200]
    outer.close()
    inner.close()


# --- streams -------------------------------------------------------------------------------------------


@pytest.fixture
def start_stream() -> Request:
    return LightconeDialect().build_stream({"instruction": "Go."})


IN_A_HEAD = [name for name in DRAWN_OUT if "line" in name or name[0].isdigit() or name == "nothing"]


@pytest.mark.parametrize("name", [*IN_A_HEAD, "the body of an error", "the body of a redirect"])
def test_the_head_of_a_stream_has_one_deadline(
    name: str, serve: Any, settings_for: Any, start_stream: Request
) -> None:
    client = SyncClient(settings_for(serve(DRAWN_OUT[name]), timeout=PATIENCE))
    with in_time(), pytest.raises(AgentTaskUncertainError, match=SLOW), client.stream(start_stream):
        pass
    client.close()


def test_the_events_of_a_stream_may_take_longer(serve: Any, settings_for: Any, start_stream: Request) -> None:
    def tell(exchange: Exchange) -> None:
        exchange.send(head(kind="text/event-stream"))
        for _ in range(4):
            exchange.pause(PATIENCE / 2)
            exchange.send(b"data: 1\n\n")

    client = SyncClient(settings_for(serve(tell), timeout=PATIENCE))
    with client.stream(start_stream) as (_, pieces):
        assert b"".join(pieces) == b"data: 1\n\n" * 4
    client.close()


@pytest.mark.parametrize("name", ["the size of a chunk", "the extension of a chunk", "trailers"])
def test_what_is_no_event_does_not_keep_a_stream_open(
    name: str, serve: Any, settings_for: Any, start_stream: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_agent_tasks.client import sync_client

    monkeypatch.setattr(sync_client, "STREAM_TIMEOUT", PATIENCE)
    server: RawServer = serve(DRAWN_OUT[name])
    client = SyncClient(settings_for(server))
    with in_time(), pytest.raises(AgentTaskUncertainError, match="sent no event"):  # noqa: SIM117
        with client.stream(start_stream) as (_, pieces):
            list(pieces)
    client.close()
