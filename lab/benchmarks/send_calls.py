"""
Sends calls as a service does, evenly spread over a time, and prints each as JSON.

A call that gets no response has the status 0. The calls share at most 100 connections; a call begins when it
is due, even if it then waits for a connection.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

import aiohttp
import uvloop

from lab.command_line import build_parser, run_command

MAX_CONNECTIONS = 100
TIMEOUT = aiohttp.ClientTimeout(total=120)
BODY = {"task_id": "tsk_1", "agent_id": "agt_1", "status": "completed"}


class Call(NamedTuple):
    """
    One call.

    :param sent_at: When it began, in seconds since 1970.
    :param seconds: Seconds until the response.
    :param status: The status of the response; 0 without one.
    """

    sent_at: float
    seconds: float
    status: int


async def send(session: aiohttp.ClientSession, url: str, due: float) -> Call:
    """Send one call when it is due, on the monotonic clock."""
    await asyncio.sleep(due - time.monotonic())
    sent_at, began, status = time.time(), time.monotonic(), 0
    try:
        async with session.post(url, json=BODY) as response:
            status = response.status
    except (aiohttp.ClientError, asyncio.TimeoutError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    return Call(sent_at, time.monotonic() - began, status)


async def send_all(urls: list[str], seconds: float) -> list[Call]:
    """Send a call to each URL, evenly spread over so many seconds."""
    began = time.monotonic()
    connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as session:
        calls = [send(session, url, began + seconds * i / len(urls)) for i, url in enumerate(urls)]
        return await asyncio.gather(*calls)


def main() -> int:
    """Send the calls, print them and return the exit status."""
    parser = build_parser("lab.benchmarks.send_calls", __doc__)
    parser.add_argument("urls_path", type=Path, help="the file with the URLs, one per line")
    parser.add_argument("seconds", type=float, help="the seconds over which the calls are spread")
    given = parser.parse_args()
    for call in uvloop.run(send_all(given.urls_path.read_text().split(), given.seconds)):
        print(json.dumps(call))
    return 0


if __name__ == "__main__":
    run_command(main)
