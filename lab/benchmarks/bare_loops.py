"""
What the triggers are compared with: loops that poll with aiohttp alone, without Airflow and protections.

The cheapest loop is the least that a poll can cost with aiohttp: no timeout, no cookies, no decompression, no
redirects, a URL that is parsed once per task, and a response that is read without a wait if it is complete.
Of the body, only the status is decoded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import msgspec
from yarl import URL

BARE = "bare"
DEFAULTS = "defaults"
TITLES = {BARE: "cheapest aiohttp loop", DEFAULTS: "aiohttp loop with the defaults"}

#: Waits for the task with this number.
Wait = Callable[[int], Coroutine[Any, Any, None]]


class _Status(msgspec.Struct):
    status: str


class CheapestLoop:
    """
    Polls as cheaply as aiohttp can; create it in an event loop.

    :param url: The address of the mock service.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._targets: dict[int, URL] = {}
        self._decode = msgspec.json.Decoder(_Status).decode
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60.0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def poll(self, number: int) -> bool:
        """Return whether the task has ended."""
        if number not in self._targets:
            self._targets[number] = URL(f"{self._url}/agent/tasks/{number}", encoded=True)
        response = await self._session.get(self._targets[number], allow_redirects=False)
        if response.content.is_eof():
            body = response.content.read_nowait()
        else:
            async with response:
                body = await response.read()
        return self._decode(body).status == "completed"

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


class DefaultLoop:
    """
    Polls as aiohttp's documentation begins; create it in an event loop.

    :param url: The address of the mock service.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = aiohttp.ClientSession()

    async def poll(self, number: int) -> bool:
        """Return whether the task has ended."""
        async with self._session.get(f"{self._url}/agent/tasks/{number}") as response:
            content = await response.json()
        return bool(content["status"] == "completed")


LOOPS: dict[str, type[CheapestLoop | DefaultLoop]] = {BARE: CheapestLoop, DEFAULTS: DefaultLoop}


def prepare_loop(name: str, url: str, interval: float) -> Wait:
    """Return how a task waits with one of the loops, polling every ``interval`` seconds."""
    poll = LOOPS[name](url).poll

    async def wait(number: int) -> None:
        while True:
            if await poll(number):
                return
            await asyncio.sleep(interval)

    return wait
