"""A server of raw bytes, for what no well-behaved server does; it records what arrived."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

LONGEST_WAIT = 10.0
#: The first byte of a client that speaks TLS.
TLS_HANDSHAKE = b"\x16"
#: Variables of the environment that would lead requests elsewhere.
NETWORK_VARIABLES = tuple(
    variant
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "NETRC",
    )
    for variant in (name, name.lower())
)


@dataclass(frozen=True)
class Received:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


@dataclass
class Exchange:
    """A request that a scripted reply may answer piece by piece."""

    server: RawServer
    socket: socket.socket
    bytes_sent: int = field(default=0, init=False)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)
        self.bytes_sent += len(data)
        self.server.most_bytes_sent = max(self.server.most_bytes_sent, self.bytes_sent)

    def pause(self, seconds: float = LONGEST_WAIT) -> None:
        """Wait, but not beyond the end of the test or of the client's patience."""
        self.socket.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            if not self.socket.recv(1):
                raise ConnectionError("the client has left")
        self.socket.settimeout(LONGEST_WAIT)


Reply = bytes | Callable[[Exchange], None]


class RawServer:
    """
    Serves scripted replies on a free port, one for each request, the last one again and again.

    :param replies: Raw bytes, or functions that send them. Without any: an empty JSON object.
    :param tls: The server's side of TLS.
    """

    def __init__(self, *replies: Reply, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self.open_connections = 0
        self.most_bytes_sent = 0
        self._replies: deque[Reply] = deque()
        self.answer(*(replies or (reply(),)))
        self.tls = tls
        self._changed = threading.Condition()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=256)
        self.port = self._listener.getsockname()[1]
        name = f"[{host}]" if ":" in host else host
        self.url = f"http{'s' if tls else ''}://{name}:{self.port}"
        self._sockets: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def answer(self, *replies: Reply) -> None:
        """Answer the next requests with these."""
        self._replies = deque(replies)

    def wait_until(self, condition: Callable[[RawServer], Any]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), LONGEST_WAIT), "it did not come about"

    def stop_listening(self) -> None:
        """Refuse further connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def close(self) -> None:
        self.stop_listening()
        with self._changed:
            for connection in self._sockets:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LONGEST_WAIT)

    def __enter__(self) -> RawServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._note_change():
                self.connections += 1
                self.open_connections += 1
                self._sockets.add(connection)
                number = self.connections
            thread = threading.Thread(target=self._serve, args=(connection, number))
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket, number: int) -> None:
        connection = plain
        # Errors here are what the client did; the tests check the client's side.
        with contextlib.suppress(OSError, ConnectionError, ValueError):
            connection.settimeout(LONGEST_WAIT)
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            elif connection.recv(1, socket.MSG_PEEK) == TLS_HANDSHAKE:
                connection.sendall(reply(400))
            with connection.makefile("rb") as stream:
                while received := _read_request(stream, number):
                    with self._note_change():
                        self.requests.append(received)
                        answer = self._replies.popleft() if len(self._replies) > 1 else self._replies[0]
                    exchange = Exchange(self, connection)
                    if callable(answer):
                        answer(exchange)
                        break
                    exchange.send(answer)
        with self._note_change():
            self._sockets.discard(plain)
            connection.close()
            plain.close()
            self.open_connections -= 1

    @contextlib.contextmanager
    def _note_change(self) -> Iterator[None]:
        with self._changed:
            yield
            self._changed.notify_all()


def reply(
    status: int = 200, body: Any = None, *, kind: str = "application/json", **headers: str | None
) -> bytes:
    """
    Return a whole reply.

    :param body: Bytes or text as they are, anything else as JSON.
    :param headers: More headers, ``retry_after`` for ``Retry-After``; None for none of that name.
    """
    if not isinstance(body, str | bytes):
        body = json.dumps({} if body is None else body)
    content = body.encode() if isinstance(body, str) else body
    fields = {"content-type": kind, "content-length": str(len(content))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
    return f"HTTP/1.1 {status} Scripted\r\n{lines}\r\n".encode() + content


def head(status: int = 200, *, kind: str = "application/json", **headers: str) -> bytes:
    """Return the head of a reply whose body is sent apart."""
    return reply(status, b"", kind=kind, **{"content_length": None, **headers})


def cut(data: bytes = b"") -> Callable[[Exchange], None]:
    """Send this and cut the connection."""
    return lambda exchange: exchange.send(data)


def silence(exchange: Exchange) -> None:
    """Never answer."""
    exchange.pause()


def drip(data: bytes, *, seconds: float = 0.05) -> Callable[[Exchange], None]:
    """Send the first 20 bytes one by one with a pause before each, then fall silent."""

    def send_slowly(exchange: Exchange) -> None:
        for position in range(len(data)):
            exchange.pause(seconds)
            exchange.send(data[position : position + 1])

    return send_slowly


def _read_request(stream: Any, number: int) -> Received | None:
    first = stream.readline().decode("latin-1").split()
    if len(first) != 3:
        return None
    headers: dict[str, str] = {}
    while line := stream.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", 0)))
    return Received(first[0], first[1], headers, body, number)
