"""Many callers with wrong keys that call the API server at the same time, from a thread of this process."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import AbstractContextManager, suppress
from typing import Any

import aiohttp

#: Seconds between two requests of one caller.
PAUSE = 5.0


class Strangers(AbstractContextManager["Strangers"]):
    """
    Callers that repeat the same PATCH, each with a different wrong key.

    :param url: The address.
    :param body: The body that they send, as JSON.
    :param count: The number of callers.
    """

    def __init__(self, url: str, body: Any, count: int) -> None:
        self._url = url
        self._body = body
        self._count = count
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._knock()), name="strangers")
        #: The number of responses by status.
        self.statuses: Counter[int] = Counter()

    def __enter__(self) -> Strangers:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over.set()
        self._thread.join()

    async def _knock(self) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
            callers = [asyncio.create_task(self._send_again(session, n)) for n in range(self._count)]
            await asyncio.to_thread(self._is_over.wait)
            for caller in callers:
                caller.cancel()
            await asyncio.gather(*callers, return_exceptions=True)

    async def _send_again(self, session: aiohttp.ClientSession, number: int) -> None:
        headers = {"Authorization": f"Bearer stranger-{number}"}
        while True:
            # The server may be restarting, which does not matter here.
            with suppress(aiohttp.ClientError, asyncio.TimeoutError):
                async with session.patch(self._url, json=self._body, headers=headers) as response:
                    self.statuses[response.status] += 1
            await asyncio.sleep(PAUSE)
