"""
Opens the connections of the triggerer's client: they look up hosts in our own threads, read in small steps,
and are never reused after unexpected bytes have arrived.
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

#: Approximate maximum number of bytes that one step of the event loop reads: a body may come in chunks of a
#: single byte, and 64 kilobytes of those would block it for 50 ms.
RECEIVE_BYTES = 16 * 1024

_NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


class NotConnectedError(aiohttp.ClientConnectionError):
    """There is no connection, so nothing was sent."""


class Resolver(AbstractResolver):
    """
    Looks up host names in our own threads.

    aiohttp's own resolver uses the event loop's thread pool, and a few lookups that hang would occupy it.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await asyncio.wrap_future(look_up(host, port, family))
        return [
            ResolveResult(
                hostname=host,
                # Includes the zone of a link-local address, which the address alone does not contain.
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
    """Distinguishes failed connections from failed requests, and reads little at a time."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        #: The connections that have been used; each poll is made ready once, because each request needs it.
        self._unread = weakref.WeakKeyDictionary[Any, select.poll]()

    async def connect(self, *args: Any, **kwargs: Any) -> aiohttp.connector.Connection:
        try:
            connection = await super().connect(*args, **kwargs)
            while unread := self._unread.get(connection.protocol):
                if not _has_received(connection, unread):
                    return connection
                connection.close()
                connection = await super().connect(*args, **kwargs)
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError):
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # This includes a proxy that closes the connection, or responds with something other than HTTP.
            raise NotConnectedError from error
        if connection.transport and (raw := connection.transport.get_extra_info("socket")):
            unread = self._unread[connection.protocol] = select.poll()
            unread.register(raw.fileno(), select.POLLIN)
            _read_in_small_steps(connection.transport, raw)
        return connection


def _has_received(connection: aiohttp.connector.Connection, unread: select.poll) -> bool:
    """Return whether an idle connection has received bytes, which would pass for the next response."""
    protocol = connection.protocol
    if protocol is None or protocol.should_close or protocol.transport is None:
        return True
    # The bytes that the event loop has not read yet.
    return bool(unread.poll(0))


def _read_in_small_steps(transport: asyncio.Transport, raw: Any) -> None:
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    # Limits reads of bytes already received; only asyncio's transport without TLS has this.
    with suppress(AttributeError):
        transport.max_size = RECEIVE_BYTES  # type: ignore[attr-defined]
