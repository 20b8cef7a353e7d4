"""Event streams: events arrive as they are sent; streams are rejected and cut like any other response."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from airflow_agent_tasks.client.sync_client import SyncClient
from airflow_agent_tasks.errors import (
    AgentTaskUnavailableError,
    AgentTaskUncertainError,
)
from airflow_agent_tasks.services.http import Request
from airflow_agent_tasks.services.lightcone import LightconeDialect
from tests.raw_server import Exchange, cut, head, reply

FIRST, SECOND = b'data: {"number": 1}\n\n', b'data: {"number": 2}\n\n'
KIND = "text/event-stream"


@pytest.fixture
def start_stream() -> Request:
    return LightconeDialect().build_stream({"instruction": "Go."})


def as_it_is(data: bytes) -> bytes:
    return data


def as_chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def pack() -> Callable[[bytes], bytes]:
    packer = zlib.compressobj(wbits=31)
    return lambda data: as_chunk(packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))


FRAMINGS: dict[str, tuple[bytes, Callable[[], Callable[[bytes], bytes]]]] = {
    "until the end of the connection": (head(kind=KIND), lambda: as_it_is),
    "with a length": (head(kind=KIND, content_length=str(len(FIRST + SECOND))), lambda: as_it_is),
    "in chunks": (head(kind=KIND, transfer_encoding="chunked"), lambda: as_chunk),
    "in one large chunk": (
        head(kind=KIND, transfer_encoding="chunked") + b"%x\r\n" % len(FIRST + SECOND),
        lambda: as_it_is,
    ),
    "packed": (head(kind=KIND, transfer_encoding="chunked", content_encoding="gzip"), pack),
}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_event_arrives_before_the_next_one_is_sent(
    framing: str, serve: Any, settings_for: Any, start_stream: Request
) -> None:
    first_was_seen = threading.Event()
    begin, make_frame = FRAMINGS[framing]

    def tell(exchange: Exchange) -> None:
        frame = make_frame()
        exchange.send(begin + frame(FIRST))
        if first_was_seen.wait(5):
            exchange.send(frame(SECOND))

    client = SyncClient(settings_for(serve(tell)))
    with client.stream(start_stream) as (response, pieces):
        assert response.status == 200
        assert response.headers["content-type"] == KIND
        assert next(pieces) == FIRST
        first_was_seen.set()
        assert next(pieces) == SECOND
    client.close()


def test_a_stream_asks_for_events(serve: Any, settings_for: Any, start_stream: Request) -> None:
    server = serve(reply(200, FIRST, kind=KIND))
    client = SyncClient(settings_for(server))
    with client.stream(start_stream) as (_, pieces):
        assert b"".join(pieces) == FIRST
    client.close()
    assert server.requests[0].headers["accept"] == KIND
    assert server.requests[0].target == "/agent/tasks/stream"
    assert server.requests[0].json == {"instruction": "Go."}


@pytest.mark.parametrize("status", [302, 401, 422, 429, 502])
def test_a_rejected_stream_can_be_read_like_any_response(
    status: int, serve: Any, settings_for: Any, start_stream: Request
) -> None:
    server = serve(reply(status, {"error": "no"}))
    client = SyncClient(settings_for(server))
    with client.stream(start_stream) as (response, pieces):
        assert (response.status, response.to_json(), list(pieces)) == (status, {"error": "no"}, [])
    client.close()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "script",
    [
        cut(head(kind=KIND, content_length="1000") + FIRST),
        cut(head(kind=KIND, transfer_encoding="chunked") + as_chunk(FIRST)),
        cut(head(kind=KIND, transfer_encoding="chunked") + as_chunk(FIRST) + b"zz\r\n"),
    ],
    ids=["short of its length", "without its last chunk", "garbled"],
)
def test_a_stream_that_is_cut_differs_from_one_that_ends(
    script: Any, serve: Any, settings_for: Any, start_stream: Request
) -> None:
    client = SyncClient(settings_for(serve(script)))
    with client.stream(start_stream) as (_, pieces):
        assert next(pieces) == FIRST
        with pytest.raises(AgentTaskUncertainError, match="closed the connection") as caught:
            next(pieces)
    client.close()
    assert caught.value.__suppress_context__


def test_a_stream_that_never_begins_raises(serve: Any, settings_for: Any, start_stream: Request) -> None:
    server = serve(cut())
    client = SyncClient(settings_for(server))
    with pytest.raises(AgentTaskUncertainError, match="closed the connection"), client.stream(start_stream):
        pass
    server.close()
    with pytest.raises(AgentTaskUnavailableError, match="no connection"), client.stream(start_stream):
        pass
    client.close()


def test_leaving_a_stream_closes_its_connection(serve: Any, settings_for: Any, start_stream: Request) -> None:
    def tell(exchange: Exchange) -> None:
        exchange.send(head(kind=KIND) + FIRST)
        exchange.pause()

    server = serve(tell)
    client = SyncClient(settings_for(server))
    with client.stream(start_stream) as (_, pieces):
        next(pieces)
    server.wait_until(lambda it: it.open_connections == 0)
    client.close()


def test_an_error_of_the_reader_stays_what_it_is(
    serve: Any, settings_for: Any, start_stream: Request
) -> None:
    client = SyncClient(settings_for(serve(reply(200, FIRST, kind=KIND))))

    def read() -> None:
        with client.stream(start_stream) as (_, pieces):
            next(pieces)
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        read()
    client.close()


def test_a_key_that_a_stream_echoes_is_blotted_out(
    serve: Any, settings_for: Any, start_stream: Request
) -> None:
    settings = settings_for("https://api.example.com")
    key = settings.api_key.encode()

    def tell(exchange: Exchange) -> None:
        exchange.send(head(kind=KIND, transfer_encoding="chunked"))
        exchange.send(as_chunk(b"data: a" + key + key[:4]) + as_chunk(key[4:9]))
        exchange.send(as_chunk(key[9:] + b" b " + key[:3] + b"\n\n") + as_chunk(b"end " + key[:5]))
        exchange.send(b"0\r\n\r\n")

    client = SyncClient(settings_for(serve(tell)))
    with client.stream(start_stream) as (_, pieces):
        assert b"".join(pieces) == b"data: a****** b " + key[:3] + b"\n\nend " + key[:5]
    client.close()
