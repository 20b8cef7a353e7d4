"""
The triggerer's client, on aiohttp: one session for all triggers of an event loop and connection.

No response may block the event loop, whatever its size and shape. A small body is returned unchanged. A large
one is reduced to the state, which is all that a triggerer reads, in a thread and one body at a time.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import math
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import aiohttp
from aiohttp import hdrs
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from tenacity import AsyncRetrying
from yarl import URL

from airflow_agent_tasks.client import transport_errors
from airflow_agent_tasks.client.content_encoding import unpack
from airflow_agent_tasks.client.large_bodies import find_large_bodies
from airflow_agent_tasks.client.redaction import Redactor
from airflow_agent_tasks.client.request_deadlines import RequestDeadlines
from airflow_agent_tasks.client.retry_policy import RetryPolicy
from airflow_agent_tasks.client.settings import ClientSettings
from airflow_agent_tasks.client.triggerer_connections import (
    RECEIVE_BYTES,
    Connector,
    NotConnectedError,
    Resolver,
)
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.services.http import KEPT_REQUESTS, MAX_BODY_BYTES, Request, Response, keep
from airflow_agent_tasks.services.http_errors import MAX_ERROR_BYTES
from airflow_agent_tasks.services.state_fields import keep_state

#: Seconds for which an idle connection is kept: longer than the longest poll interval, or every poll would
#: open a new one.
KEEP_ALIVE = 60.0

#: Maximum size of a body that can be unpacked, parsed and searched for secrets within milliseconds, whatever
#: it contains. No more than this is read of an error's body.
SMALL_BODY_BYTES = MAX_ERROR_BYTES


class AsyncClient:
    """
    Sends requests from an event loop, without a rate limit: the shared poller has its own.

    Create it with ``open``.
    """

    def __init__(
        self,
        settings: ClientSettings,
        network: tuple[str | None, ssl.SSLContext | bool],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.settings = settings
        self._sleep = sleep
        self._proxy, verify = network
        self._redactor = Redactor(settings.api_key, self._proxy)
        # Kept for each waiting task, because each poll would parse its URL again.
        self._build_url = functools.lru_cache(KEPT_REQUESTS)(partial(_parse_url, settings))
        self._deadlines = RequestDeadlines(settings.timeout)
        self._in_flight = 0
        self._is_closing = False
        self._session = aiohttp.ClientSession(
            # trust_env reads ~/.netrc in a thread for every request, and sends what it finds.
            trust_env=False,
            timeout=aiohttp.ClientTimeout(
                total=None,  # see RequestDeadlines
                connect=settings.connect_timeout,
                ceil_threshold=math.inf,  # aiohttp rounds up to whole seconds
            ),
            connector=Connector(ssl=verify, limit=0, keepalive_timeout=KEEP_ALIVE, resolver=Resolver()),
            # Not with each request, where aiohttp would parse them again.
            headers={
                **settings.build_headers(Request.accept),
                "Authorization": f"Bearer {settings.api_key}",
            },
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=RECEIVE_BYTES,  # the memory of each body that waits for room
        )

    @classmethod
    async def open(
        cls, settings: ClientSettings, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> AsyncClient:
        """
        Open a client; use and close it on the same event loop.

        :param settings: Where to send requests and how.
        :param sleep: Waits between attempts; takes seconds.
        :raises AgentTaskConfigurationError: for an unusable proxy or CA file.
        """
        # In a thread: reading the CAs would block the event loop for 60 ms.
        return cls(settings, await asyncio.to_thread(_read_network, settings), sleep)

    async def send(self, request: Request, *, retries: bool = True) -> Response:
        """Send a request and return the response, whatever its status; raises like ``SyncClient.send``."""
        self._in_flight += 1
        try:
            if retries or request.has_effect:
                return await self._send_with_retries(request, retries)
            # A shortcut for the thousands of status checks, whose callers wait and retry.
            return await self._send_once(request)
        finally:
            self._in_flight -= 1
            if self._is_closing:
                await self.close()

    async def close(self) -> None:
        """Close the connections once all requests in flight have their responses."""
        self._is_closing = True
        if not self._in_flight:
            self._deadlines.close()
            await self._session.close()

    async def _send_with_retries(self, request: Request, retries: bool) -> Response:
        policy = RetryPolicy(request, retries=retries)
        retrying = AsyncRetrying(sleep=self._sleep, **policy.options())
        try:
            return policy.finish(await retrying(self._send_once, request))
        except AgentTaskError as error:
            policy.finish_with_error(error)
            raise

    async def _send_once(self, request: Request) -> Response:
        if self._session.closed:  # the connection has changed since the previous request
            raise transport_errors.not_sent(request, self.settings)
        ends_at = time.monotonic() + self.settings.timeout
        try:
            with self._deadlines.begin():
                response = await self._request(request)
                content = response.content
                # Most responses arrive whole, with their headers: nothing to wait for or to release.
                if content.is_eof() and content.total_bytes <= SMALL_BODY_BYTES and not _is_packed(response):
                    body = content.read_nowait()
                    return self._redactor.build_response(response.status, response.headers, body)
                async with response:
                    return await self._read(request, response, ends_at)
        except AgentTaskError:
            raise
        except (aiohttp.ClientError, OSError, ValueError, asyncio.TimeoutError) as error:
            explained = _explain(error, request, self.settings)
        # Raised here and not above, where it would keep the exception chain, with the key and the response.
        try:
            raise explained
        finally:
            del explained  # its traceback refers to this frame

    async def _read(self, request: Request, response: aiohttp.ClientResponse, ends_at: float) -> Response:
        received = bytearray()
        async for chunk in response.content.iter_any():
            received += chunk
            if len(received) > SMALL_BODY_BYTES:
                break
        else:
            body = _unpack(response, bytes(received), SMALL_BODY_BYTES, ends_at)
            if body is not None:
                return self._redactor.build_response(response.status, response.headers, body)
        large_bodies = find_large_bodies()
        with large_bodies.receive(received):
            async for chunk in response.content.iter_any():
                await large_bodies.add(received, chunk, ends_at)
                if len(received) > MAX_BODY_BYTES:
                    raise transport_errors.too_large(request, self.settings, response.status)
            reduce = partial(self._reduce, request, response, received, ends_at)
            reduced = await large_bodies.parse(reduce, ends_at)
        if isinstance(reduced, Response):
            return reduced
        raise reduced

    def _reduce(
        self, request: Request, response: aiohttp.ClientResponse, received: bytearray, ends_at: float
    ) -> Response | AgentTaskError:
        """Return a response with only the state of its body, or an error: raising it would keep the body."""
        packed = bytes(received)
        received.clear()
        try:
            body = _unpack(response, packed, MAX_BODY_BYTES, ends_at)
        except (ValueError, asyncio.TimeoutError) as error:
            return _explain(error, request, self.settings)
        if body is None:
            return transport_errors.too_large(request, self.settings, response.status)
        whole = self._redactor.build_response(response.status, response.headers, body)
        if 200 <= whole.status < 300:
            with suppress(ValueError):
                return dataclasses.replace(whole, body=keep_state(whole, _pause), redact=keep)
        # One byte more than the longest error that is parsed: a truncated one must not look complete.
        return dataclasses.replace(whole, body=whole.body[: MAX_ERROR_BYTES + 1])

    def _request(self, request: Request) -> aiohttp.client._RequestContextManager:
        return self._session.request(
            request.method,
            self._build_url(request.path),
            json=request.json,
            allow_redirects=False,
            proxy=self._proxy,
        )


def _pause() -> None:
    # A thread does not yield by itself: the event loop would wait 5 ms for each system call.
    time.sleep(0.0005)


def _parse_url(settings: ClientSettings, path: str) -> URL:
    # encoded: a quoted id must be neither quoted again nor unquoted.
    return URL(settings.build_url(path), encoded=True)


def _is_packed(response: aiohttp.ClientResponse) -> bool:
    return hdrs.CONTENT_ENCODING in response.headers


def _unpack(response: aiohttp.ClientResponse, packed: bytes, limit: int, ends_at: float) -> bytes | None:
    def check() -> None:
        if time.monotonic() > ends_at:
            raise asyncio.TimeoutError

    return unpack(response.headers.get(hdrs.CONTENT_ENCODING, ""), packed, limit, check)


def _read_network(settings: ClientSettings) -> tuple[str | None, ssl.SSLContext | bool]:
    """Return the proxy, or None, and how to verify certificates, as aiohttp's arguments."""
    proxy, verify = settings.resolve_network()
    if isinstance(verify, bool):
        return proxy, verify and _trust_as_requests_does()
    return proxy, settings.load_ca(verify)


@functools.cache
def _trust_as_requests_does() -> ssl.SSLContext:
    # aiohttp trusts the CAs of the operating system, so a service could work in the worker but not here.
    return ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH)


def _explain(error: Exception, request: Request, settings: ClientSettings) -> AgentTaskError:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return transport_errors.bad_certificate(settings)
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return transport_errors.no_tls(settings)
    if isinstance(error, NotConnectedError | aiohttp.ConnectionTimeoutError):
        return transport_errors.not_sent(request, settings)
    if isinstance(error, asyncio.TimeoutError):
        return transport_errors.too_slow(request, settings)
    if isinstance(error, aiohttp.InvalidURL):
        return transport_errors.unusable(request, settings)
    return transport_errors.cut_off(request, settings)
