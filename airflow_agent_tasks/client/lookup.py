"""Looks up the addresses of a host, in a separate thread: no timeout can interrupt a lookup that hangs."""

from __future__ import annotations

import ipaddress
import socket
import threading
from concurrent.futures import Future
from typing import Any

#: Family, kind, protocol, canonical name and socket address, as ``socket.getaddrinfo`` returns them.
Addresses = list[tuple[Any, Any, int, str, Any]]


def look_up(host: str, port: int, family: int = socket.AF_UNSPEC) -> Future[Addresses]:
    """
    Start to look up a host, and return a future of its addresses.

    Nothing has to wait for the thread, not even the exit of the process.
    """
    future: Future[Addresses] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM))
        except Exception as error:
            future.set_exception(error)

    if _is_address(host):
        run()
    else:
        threading.Thread(target=run, name="agent-task-lookup", daemon=True).start()
    return future


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
