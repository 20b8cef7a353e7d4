"""The way to a service, which can be blocked: a relay of bytes that runs in a thread of this process."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

HOST = "127.0.0.1"
PIECE = 64 * 1024

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
#: What no request begins with.
NEVER = "(?!)"


class Barrier:
    """
    Lets everything pass until certain requests have come one after the other; then it is down.

    :param requests: What they begin with, as regular expressions.
    :param holds_requests: True to hold requests too when it is down, the last of these included; else the
        service gets them, and only its replies are held.
    """

    def __init__(self, *requests: str, holds_requests: bool) -> None:
        self._awaited = [re.compile(request.encode()) for request in requests]
        self._holds_requests = holds_requests

    @property
    def is_down(self) -> bool:
        """True once all of the requests have come."""
        return not self._awaited

    def passes_request(self, piece: bytes) -> bool:
        """Tell whether this piece of a request may pass."""
        # Clients send one request at a time on a connection, so that each begins with a piece of its own.
        if self._awaited and self._awaited[0].match(piece):
            self._awaited.pop(0)
        return not (self.is_down and self._holds_requests)

    def passes_reply(self, piece: bytes) -> bool:
        """Tell whether a piece of a reply may pass."""
        return not self.is_down


class Relay:
    """
    Stands between a client and a service, open at first; every change cuts the connections there are.

    :param target_url: The service's address.
    """

    def __init__(self, target_url: str) -> None:
        self._target_port = urlsplit(target_url).port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._socket = bind_to(0)
        self._port = int(self._socket.getsockname()[1])
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[Any]] = set()
        self._barrier = Barrier(NEVER, holds_requests=False)

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"http://{HOST}:{self._port}"

    def __enter__(self) -> Relay:
        self._thread.start()
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._socket.close()

    def open(self) -> None:
        """Let everything pass."""
        self._put_up(Barrier(NEVER, holds_requests=False))

    def hold_replies(self, *requests: str) -> None:
        """Let requests pass, and no reply from the last of these requests on; see ``Barrier``."""
        self._put_up(Barrier(*requests, holds_requests=False))

    def hold_requests(self, *requests: str) -> None:
        """Let nothing pass from the last of these requests on; see ``Barrier``."""
        self._put_up(Barrier(*requests, holds_requests=True))

    @property
    def is_holding(self) -> bool:
        """True once the last of these requests has come."""
        return self._barrier.is_down

    def refuse(self) -> None:
        """Refuse connections: nobody listens."""
        self._become(None)

    def keep_silent(self) -> None:
        """Take requests, pass nothing on and never answer."""
        self._become(_ignore)

    def answer(self, status: int, page: str) -> None:
        """Answer every request with this HTML page, as a proxy before a dead service does."""
        head = f"HTTP/1.1 {status} Scripted\r\nContent-Type: text/html\r\nContent-Length: {len(page)}\r\n"
        self._become(partial(_answer, f"{head}Connection: close\r\n\r\n{page}".encode()))

    def _put_up(self, barrier: Barrier) -> None:
        self._barrier = barrier
        self._become(partial(self._pass_on, barrier))

    def _become(self, handler: Handler | None) -> None:
        asyncio.run_coroutine_threadsafe(self._switch(handler), self._loop).result(timeout=10)

    async def _switch(self, handler: Handler | None) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            # Bound, though not listening: nobody else can take the port meanwhile.
            self._socket = bind_to(self._port)
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        if handler is not None:
            self._server = await asyncio.start_server(
                partial(self._serve, handler), sock=self._socket, backlog=128
            )

    async def _serve(
        self, handler: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio calls this in a task; this is for mypy
        self._connections.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await handler(reader, writer)
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _pass_on(
        self, barrier: Barrier, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        service_reader, service_writer = await asyncio.open_connection(HOST, self._target_port)
        ways: tuple[Coroutine[Any, Any, None], ...] = (
            _copy(reader, service_writer, barrier.passes_request),
            _copy(service_reader, writer, barrier.passes_reply),
        )
        tasks = [asyncio.create_task(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            service_writer.transport.abort()


def bind_to(port: int) -> socket.socket:
    """Return a socket that has this port, 0 for any free one, and does not listen yet."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((HOST, port))
    return bound


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: Callable[[bytes], bool]
) -> None:
    while piece := await reader.read(PIECE):
        if passes(piece):
            writer.write(piece)
            await writer.drain()


async def _ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(PIECE):
        pass


async def _answer(reply: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(reply)
    await writer.drain()
    writer.close()
    # Not cut before the client has it.
    await reader.read()
