"""A TCP proxy in front of a service that can fail in several ways; it runs in a thread of this process."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

HOST = "127.0.0.1"
PIECE = 64 * 1024

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
#: Matches no request.
NEVER = "(?!)"


class Barrier:
    """
    Passes everything until certain requests have come in this order; then it goes down.

    :param requests: The starts of the requests, as regular expressions.
    :param holds_requests: True to hold requests too once it is down, including the last of these; False to
        pass them to the service and hold only the responses.
    """

    def __init__(self, *requests: str, holds_requests: bool) -> None:
        self._awaited = [re.compile(request.encode()) for request in requests]
        self._holds_requests = holds_requests

    @property
    def is_down(self) -> bool:
        """True once all of the requests have come."""
        return not self._awaited

    def passes_request(self, piece: bytes) -> bool:
        """Return True if this piece of a request may pass."""
        # Clients send one request at a time on a connection, so each request begins with a new piece.
        if self._awaited and self._awaited[0].match(piece):
            self._awaited.pop(0)
        return not (self.is_down and self._holds_requests)

    def passes_response(self, piece: bytes) -> bool:
        """Return True if a piece of a response may pass."""
        return not self.is_down


class FaultProxy:
    """
    Stands between a client and a service, open at first; every change cuts the open connections.

    :param target_url: The service's address.
    """

    def __init__(self, target_url: str) -> None:
        self._target_port = urlsplit(target_url).port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._socket = bind_to(0)
        self._port = int(self._socket.getsockname()[1])
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[Any]] = set()
        self._barrier = Barrier(NEVER, holds_requests=False)

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"http://{HOST}:{self._port}"

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._socket.close()

    def open(self) -> None:
        """Pass everything."""
        self._install(Barrier(NEVER, holds_requests=False))

    def hold_responses(self, *requests: str) -> None:
        """Pass requests, but no response once the last of these has come; see ``Barrier``."""
        self._install(Barrier(*requests, holds_requests=False))

    def hold_requests(self, *requests: str) -> None:
        """Pass nothing once the last of these requests has come; see ``Barrier``."""
        self._install(Barrier(*requests, holds_requests=True))

    @property
    def is_holding(self) -> bool:
        """True once the last of these requests has come."""
        return self._barrier.is_down

    def refuse(self) -> None:
        """Refuse connections."""
        self._become(None)

    def never_respond(self) -> None:
        """Accept requests, but pass nothing on and never respond."""
        self._become(_ignore)

    def respond(self, status: int, page: str) -> None:
        """Respond to every request with this HTML page, like a gateway in front of a dead service."""
        head = f"HTTP/1.1 {status} Scripted\r\nContent-Type: text/html\r\nContent-Length: {len(page)}\r\n"
        self._become(partial(_respond, f"{head}Connection: close\r\n\r\n{page}".encode()))

    def _install(self, barrier: Barrier) -> None:
        self._barrier = barrier
        self._become(partial(self._pass_on, barrier))

    def _become(self, handler: Handler | None) -> None:
        asyncio.run_coroutine_threadsafe(self._switch(handler), self._loop).result(timeout=10)

    async def _switch(self, handler: Handler | None) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            # Bound but not listening, so that no other process can take the port.
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
        directions: tuple[Coroutine[Any, Any, None], ...] = (
            _copy(reader, service_writer, barrier.passes_request),
            _copy(service_reader, writer, barrier.passes_response),
        )
        tasks = [asyncio.create_task(direction) for direction in directions]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            service_writer.transport.abort()


def bind_to(port: int) -> socket.socket:
    """Return a socket that is bound to this port, 0 for any free one, and does not listen yet."""
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


async def _respond(response: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(response)
    await writer.drain()
    writer.close()
    # Keep the connection until the client has read it.
    await reader.read()
