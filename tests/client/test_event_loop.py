"""No response stops a triggerer's event loop, or takes much memory, whatever its size and shape."""

from __future__ import annotations

import asyncio
import gc
import gzip
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_agent_tasks.client.async_client import AsyncClient
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.services.http import MAX_BODY_BYTES, Response
from airflow_agent_tasks.services.state_fields import read_state
from tests.raw_server import head, reply

#: Seconds of CPU between two steps of the event loop. Parsing the bodies in full takes seconds.
LONGEST = 0.05
#: Bytes by which the process may grow. The bodies alone would take a billion.
MOST_MEMORY = 200_000_000
AT_ONCE = 100
CONNECTIONS = 10
SIZE = MAX_BODY_BYTES - 200


def fill(piece: bytes, size: int = SIZE) -> bytes:
    return piece * (size // len(piece))


def body_with(field: bytes, value: bytes) -> bytes:
    return b'{"' + field + b'": ' + value + b', "status": "running"}'


def in_chunks(body: bytes, size: int) -> bytes:
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return head(transfer_encoding="chunked") + chunks + b"0\r\n\r\n"


LISTS = b"[" + fill(b"[],") + b"1]"
BODIES: dict[str, bytes] = {
    "lists in the progress": body_with(b"progress", LISTS),
    "lists in the question": body_with(b"question", LISTS),
    "lists in the result": body_with(b"result", LISTS),
    "objects in the progress": body_with(b"progress", b'{"a": [' + fill(b'{"a":1},') + b"1]}"),
    "NaN": body_with(b"result", b"[" + fill(b"NaN,") + b"1]"),
    "NaN behind many texts": body_with(b"result", b"[" + fill(b'"",') + b"NaN]"),
    "deep lists": body_with(b"result", fill(b"[", SIZE // 2) + fill(b"]", SIZE // 2)),
    "keys": body_with(b"result", b"{" + fill(b'"a":1,') + b'"b":1}'),
    "escapes in the question": body_with(b"question", b'"' + fill(rb"\u005f") + b'"'),
    "backslashes in the question": body_with(b"question", b'"' + fill(rb"\\") + b'"'),
    "digits in the exit code": body_with(b"exit_code", fill(b"9")),
    "no JSON": b"<html>" + fill(b"%5f\\"),
}
LONG = b'"' + fill(rb"\\", 60_000) + b'"'
FIELDS = b"".join(
    b'"%s": %s, ' % (name, LONG)
    for name in (b"question", b"prompt", b"input_request", b"message", b"current_step")
)
ALL_FIELDS = b'{%s"progress": {%s"total_steps": 1}, "status": "running"}' % (FIELDS, FIELDS)
REPLIES: dict[str, bytes] = {
    **{name: reply(200, body) for name, body in BODIES.items()},
    "packed lists": reply(200, gzip.compress(BODIES["lists in the progress"]), content_encoding="gzip"),
    "a packed bomb": reply(200, gzip.compress(b" " * 5 * MAX_BODY_BYTES), content_encoding="gzip"),
    "many packed parts": reply(200, gzip.compress(b"") * 3_000, content_encoding="gzip"),
    "few packed parts": reply(200, gzip.compress(b"") * 800, content_encoding="gzip"),
    "empty deflate parts": reply(200, b"\x03\x00" * 8_000, content_encoding="deflate"),
    "backslashes in all fields": reply(200, ALL_FIELDS),
    "chunks of a byte": in_chunks(b" " * 500_000 + b'{"status": "running"}', 1),
    "interim responses": b"HTTP/1.1 102 Processing\r\n\r\n" * 20_000 + reply(200, {"status": "running"}),
    "the body of an error": reply(500, BODIES["lists in the progress"]),
    "the longest error that is read": reply(500, b"[" + fill(b"[],", 16_000) + b"1]"),
    "headers": reply(200, {"status": "running"}, **{f"x_{n}": "%5f\\" * 1_900 for n in range(90)}),
}


async def send_beside_a_clock(client: AsyncClient, request: Any, times: int) -> tuple[list[Any], float]:
    """Send the request so many times at once; return the outcomes, and the longest step in CPU seconds."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            longest = max(longest, time.thread_time() - before)

    clock = asyncio.create_task(tick())
    calls = (client.send(request, retries=False) for _ in range(times))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    clock.cancel()
    return outcomes, longest


@pytest.mark.parametrize("name", REPLIES)
def test_no_response_stops_the_event_loop(
    name: str, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    async def send() -> tuple[list[Any], float]:
        client = await AsyncClient.open(settings_for(serve(REPLIES[name])))
        try:
            await send_beside_a_clock(client, requests_to_send.status, 1)  # imports, caches
            # What other tests have left in this process takes a collector 50 ms by itself.
            gc.collect()
            gc.freeze()
            return await send_beside_a_clock(client, requests_to_send.status, 1)
        finally:
            gc.unfreeze()
            await client.close()

    (outcome,), longest = asyncio.run(send())
    assert longest < LONGEST
    assert isinstance(outcome, Response | AgentTaskError)
    if isinstance(outcome, Response) and outcome.status == 200 and outcome.body.startswith(b"{"):
        assert read_state(outcome)["status"] == "running"


def read_size() -> int:
    """Return the bytes of memory of this process."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


@pytest.mark.parametrize("name", ["NaN", "packed lists", "a packed bomb"])
def test_many_large_responses_at_once_take_little_memory(
    name: str, serve: Any, settings_for: Any, requests_to_send: Any
) -> None:
    async def send() -> int:
        settings = settings_for(serve(REPLIES[name]), timeout=60)
        clients = [await AsyncClient.open(settings) for _ in range(CONNECTIONS)]
        most = before = read_size()

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, read_size())
                await asyncio.sleep(0.005)

        watcher = asyncio.create_task(watch())
        calls = (
            clients[number % CONNECTIONS].send(requests_to_send.status, retries=False)
            for number in range(AT_ONCE)
        )
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        watcher.cancel()
        for client in clients:
            await client.close()
        assert all(isinstance(outcome, Response | AgentTaskError) for outcome in outcomes)
        return most - before

    grown = asyncio.run(send())
    assert grown < MOST_MEMORY
