"""
Opens the connections of the triggerer's client: looked up in threads of our own, read in small steps, and
never used again once something has arrived at them that nobody asked for.
"""

from __future__ import annotations

import asyncio
import select
import socket
import weakref
from contextlib import suppress
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from airflow_agent_tasks.client.lookup import look_up

#: What one step of the event loop reads at most, about: a body may come in chunks of a single byte, of which
#: 64 kilobytes would block it for 50 ms.
RECEIVE_BYTES = 16 * 1024

_NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


class NotConnectedError(aiohttp.ClientConnectionError):
    """There is no connection, so nothing was sent."""


class Resolver(AbstractResolver):
    """
    Looks up host names in threads of our own.

    aiohttp's own one uses the event loop's threads: a few look-ups that hang would occupy all of them.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await asyncio.wrap_future(look_up(host, port, family))
        return [
            ResolveResult(
                hostname=host,
                # With the zone of a link-local address, which the address alone does not show.
                host=socket.getnameinfo(address, _NUMERIC)[0],
                port=port,
                family=found_family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for found_family, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Nothing to close."""


class Connector(aiohttp.TCPConnector):
    """Tells connections that failed from requests that did, and reads little at a time."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._used = weakref.WeakSet[Any]()

    async def connect(self, *args: Any, **kwargs: Any) -> aiohttp.connector.Connection:
        try:
            connection = await super().connect(*args, **kwargs)
            while connection.protocol in self._used and _has_received(connection):
                connection.close()
                connection = await super().connect(*args, **kwargs)
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError):
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Also a proxy that cuts the connection, or answers with something that is not HTTP.
            raise NotConnectedError from error
        self._used.add(connection.protocol)
        if connection.transport and (raw := connection.transport.get_extra_info("socket")):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            # For what the system has received before; only asyncio's transport without TLS reads it.
            with suppress(AttributeError):
                connection.transport.max_size = RECEIVE_BYTES  # type: ignore[attr-defined]
        return connection


def _has_received(connection: aiohttp.connector.Connection) -> bool:
    """Return whether an idle connection has, which would be taken for the response to the next request."""
    if connection.protocol is None or connection.protocol.should_close or connection.transport is None:
        return True
    # What the event loop has not read yet.
    unread = select.poll()
    unread.register(connection.transport.get_extra_info("socket"), select.POLLIN)
    return bool(unread.poll(0))
