"""Large bodies share an event loop: none stops the others, and unpacking ends with the request."""

from __future__ import annotations

import asyncio
import gc
import gzip
import random
import time
import tracemalloc
import zlib
from typing import Any

import pytest

from airflow_agent_tasks.client.async_client import AsyncClient
from airflow_agent_tasks.client.content_encoding import unpack
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.services.http import MAX_BODY_BYTES, Response
from airflow_agent_tasks.services.state_fields import read_state
from tests.raw_server import Exchange, head, reply

LARGE = b'{"result": "' + b"a" * 2_000_000 + b'", "status": "running"}'
EMPTY_DEFLATE = zlib.compress(b"")[2:-4]


def hang_within(exchange: Exchange) -> None:
    exchange.send(head(content_length="9000000") + b"{" + b" " * 300_000)
    exchange.pause()


def test_bodies_that_hang_stop_no_large_one(serve: Any, settings_for: Any, requests_to_send: Any) -> None:
    hanging, healthy = serve(hang_within), serve(reply(200, LARGE))

    async def send() -> Response:
        slow = await AsyncClient.open(settings_for(hanging, timeout=30))
        client = await AsyncClient.open(settings_for(healthy, timeout=5))
        calls = [asyncio.create_task(slow.send(requests_to_send.status, retries=False)) for _ in range(20)]
        await asyncio.to_thread(hanging.wait_until, lambda server: server.open_connections == len(calls))
        response = await client.send(requests_to_send.status, retries=False)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await client.close()
        await slow.close()
        return response

    assert read_state(asyncio.run(send())) == {"status": "running"}


def break_off(exchange: Exchange) -> None:
    exchange.send(head(content_length="9000000") + b"{" + b" " * 3_000_000)
    exchange.socket.close()


PACKED = gzip.compress(random.Random(1).randbytes(3_000_000))  # noqa: S311 - it shall not shrink
FAILING: dict[str, Any] = {
    "cut off": break_off,
    "too large": reply(200, b"{" + b" " * (MAX_BODY_BYTES + 1)),
    "unpacked too large": reply(200, gzip.compress(b" " * (MAX_BODY_BYTES + 1)), content_encoding="gzip"),
    "packed and damaged": reply(200, PACKED[:-4_000] + b"x" * 4_000, content_encoding="gzip"),
    "not packed": reply(200, PACKED[20:], content_encoding="gzip"),
}


@pytest.mark.parametrize("name", FAILING)
def test_an_error_keeps_nothing_of_the_body(
    name: str, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    async def send() -> tuple[AgentTaskError, int]:
        client = await AsyncClient.open(settings_for(serve(FAILING[name])))
        try:
            gc.collect()
            gc.disable()
            tracemalloc.start()
            for _ in range(3):
                with pytest.raises(AgentTaskError) as caught:
                    await client.send(requests_to_send.status, retries=False)
            return caught.value, tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
            gc.enable()
            await client.close()

    error, held = asyncio.run(send())
    assert error.__context__ is None
    assert held < 1_000_000


#: What keeps an unpacker busy without unpacking anything.
BUSY = {
    "empty deflate parts": ("deflate", EMPTY_DEFLATE * (1_000_000 // len(EMPTY_DEFLATE))),
    "empty gzip parts": ("gzip", gzip.compress(b"") * 50_000),
    "empty gzip parts, twice": ("gzip, gzip", gzip.compress(gzip.compress(b"") * 50_000)),
}


@pytest.mark.parametrize("name", BUSY)
def test_many_packed_parts_are_not_unpacked(name: str) -> None:
    began = time.thread_time()
    with pytest.raises(ValueError, match="compressed parts"):
        unpack(*BUSY[name], MAX_BODY_BYTES, lambda: None)
    assert time.thread_time() - began < 0.2


@pytest.mark.parametrize("name", BUSY)
def test_many_packed_parts_are_an_error_of_both_clients(
    name: str, serve: Any, settings_for: Any, requests_to_send: Any, send_with_both: Any
) -> None:
    encoding, body = BUSY[name]
    server = serve(reply(200, body, content_encoding=encoding))
    began = time.monotonic()
    outcomes = send_with_both(settings_for(server, timeout=3), requests_to_send.status)
    assert time.monotonic() - began < 6
    assert all(isinstance(outcome, AgentTaskError) for outcome in outcomes)


def test_a_body_of_some_parts_is_unpacked() -> None:
    body = gzip.compress(b"a" * 100_000) * 99 + gzip.compress(b"b")
    assert unpack("gzip", body, MAX_BODY_BYTES, lambda: None) == b"a" * 9_900_000 + b"b"
    assert unpack("gzip", body, 9_900_000, lambda: None) is None
    assert unpack("gzip", gzip.compress(b"a") + bytes(100), MAX_BODY_BYTES, lambda: None) == b"a"


def test_unpacking_ends_at_the_deadline() -> None:
    def check() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        unpack("gzip", gzip.compress(b"a"), MAX_BODY_BYTES, check)
