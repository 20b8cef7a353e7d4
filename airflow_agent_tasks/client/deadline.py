"""
One deadline for everything that a request of the worker's client does: connect, send, and read to the last
byte.

The timeouts of requests and urllib3 limit each single read, so a service or proxy that sends a byte now and
then would block a worker forever. The sockets here limit each operation to the time that is left. They look
up the running request's deadline by thread, so that a reused connection does not keep the deadline of an
earlier request, and a request in a signal handler has its own.
"""

from __future__ import annotations

import concurrent.futures
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any

from airflow_agent_tasks.client.lookup import look_up
from airflow_agent_tasks.client.settings import CONNECT_TIMEOUT


class _Thread(threading.local):
    deadline: Deadline | None = None


_thread = _Thread()


class Deadline:
    """
    Limits this thread's operations on our sockets while it is entered; it may be entered again.

    :param seconds: Seconds from now.
    :param is_part: True if the thread's current deadline limits it too. Default False.
    """

    def __init__(self, seconds: float, *, is_part: bool = False) -> None:
        outer = _thread.deadline if is_part else None
        ends_at = time.monotonic() + seconds
        self._ends_at: float = min(ends_at, outer._ends_at) if outer else ends_at
        self._outer: Deadline | None = None
        #: Whether the request may have reached the service.
        self.is_sent = False
        self._socket: socket.socket | None = None
        self._is_cancelled = False

    def __enter__(self) -> Deadline:
        self._outer, _thread.deadline = _thread.deadline, self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _thread.deadline, self._outer = self._outer, None

    @property
    def seconds_left(self) -> float:
        """Seconds that are left; less than 0 once the deadline has passed."""
        return self._ends_at - time.monotonic()

    def cancel(self) -> None:
        """End the operation that runs under this deadline, from another thread."""
        self._is_cancelled = True
        if self._socket:
            with suppress(OSError):  # closed in the meantime
                # Not the method of a TLS socket, which the other thread may be using.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def limit(self, connection: socket.socket) -> None:
        """Limit the next operation of a socket; raises TimeoutError if the deadline has passed."""
        self._socket = connection
        connection.settimeout(self.check())

    def check(self) -> float:
        """Return the seconds that are left; raises TimeoutError if it has passed or was cancelled."""
        if self._is_cancelled:
            raise TimeoutError("cancelled")
        if (left := self.seconds_left) > 0:
            return left
        raise TimeoutError("timed out")


def mark_sent() -> None:
    """Note that the running request is about to be sent."""
    if _thread.deadline:
        _thread.deadline.is_sent = True


class _LimitedSocket(socket.socket):
    """A socket whose operations end at the running request's deadline."""

    def _limit(self) -> None:
        if _thread.deadline:
            _thread.deadline.limit(self)

    def recv(self, *args: Any) -> bytes:
        self._limit()
        return super().recv(*args)

    def recv_into(self, *args: Any) -> int:
        self._limit()
        return super().recv_into(*args)

    def send(self, *args: Any) -> int:
        self._limit()
        return super().send(*args)

    def sendall(self, *args: Any) -> None:
        self._limit()
        super().sendall(*args)


class LimitedTLSSocket(_LimitedSocket, ssl.SSLSocket):
    """A socket with TLS that does the same; set it as the ``sslsocket_class`` of a context."""

    def do_handshake(self, block: bool = False) -> None:
        self._limit()
        super().do_handshake(block)


def connect(host: str, port: int, options: Iterable[tuple[int, int, int | bytes]]) -> socket.socket:
    """
    Return a connected socket, within the running request's remaining time.

    :param host: A name or an address.
    :param port: The port.
    :param options: Socket options, each a level, a name and a value.
    :raises OSError: if no connection to any of the host's addresses succeeds.
    """
    deadline = _thread.deadline or Deadline(CONNECT_TIMEOUT)
    try:
        addresses = look_up(host.strip("[]"), port).result(timeout=deadline.check())
    except concurrent.futures.TimeoutError:
        raise TimeoutError(f"looking up {host} took too long") from None
    failure: OSError = OSError(f"{host} has no address")
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        connection = _LimitedSocket(family, kind, protocol)
        try:
            for option in options:
                connection.setsockopt(*option)
            # Each address gets a share of the time, so that one that does not respond leaves some for the
            # next.
            connection.settimeout(deadline.check() / (len(addresses) - number))
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure
