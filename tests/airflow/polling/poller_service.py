"""What the tests of the shared poller have in common: a clock, a service that checks its key, and pollers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from airflow_agent_tasks.polling.shared_poller import SharedPoller, use_poller
from tests.raw_server import reply

#: How many agent tasks are polled at the same time.
MANY = 50
OK = reply(200, {"status": "running"})
#: For the tests of a module: fail where a session, a connection or a task of the event loop is left behind.
LEAVES_NOTHING_OPEN = [
    pytest.mark.usefixtures("nothing_is_left_open"),
    pytest.mark.filterwarnings("error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning"),
]


class Clock:
    """The monotonic clock, which a test sets forward instead of waiting."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


def with_poller(
    work: Callable[[SharedPoller], Awaitable[Any]], *, clock: Callable[[], float] = time.monotonic
) -> Any:
    """Run something with a poller of the connection ``c1``."""

    async def run() -> Any:
        async with aclosing(SharedPoller("c1", clock=clock)) as poller:
            return await work(poller)

    return asyncio.run(run())


async def poll(times: int = 1) -> None:
    """Poll an agent task with the shared poller of ``c1``."""
    async with use_poller("c1") as poller:
        for _ in range(times):
            await poller.get_task("tsk_1", None)
            await asyncio.sleep(0)


async def wait_for_refresh() -> None:
    """Wait for the refresh of the connection that runs in the background."""
    await asyncio.wait([task for task in asyncio.all_tasks() if "CachedHook._refresh" in repr(task)])


async def get_many(poller: SharedPoller) -> list[Any]:
    """Return what each of many concurrent checks gets: an agent task or an error."""
    checks = [poller.get_task(f"tsk_{number}", None) for number in range(MANY)]
    return list(await asyncio.gather(*checks, return_exceptions=True))


class KeyService:
    """A service that accepts one key, and counts how often it got which."""

    def __init__(self, connect: Callable[..., None]) -> None:
        self.got: Counter[str] = Counter()
        self._connect = connect
        self._server = TestServer(web.Application())
        self._server.app.router.add_get("/agent/tasks/{id}", self._answer)
        self.key = "sk_old"
        #: Unset it to let requests wait for their response.
        self.answers = asyncio.Event()
        self.answers.set()

    async def __aenter__(self) -> KeyService:
        await self._server.start_server()
        self.connect("sk_old")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    def connect(self, key: str, **extra: Any) -> None:
        """Put this key into the connection."""
        self._connect(str(self._server.make_url("/")), key=key, **extra)

    async def _answer(self, request: web.Request) -> web.Response:
        key = request.headers["authorization"].removeprefix("Bearer ")
        self.got[key] += 1
        await self.answers.wait()
        if key != self.key:
            return web.json_response({"error": "no such key"}, status=401)
        return web.json_response({"status": "running"})
