"""The triggerer's client, on aiohttp: one session per event loop and connection, shared by all triggers."""

from __future__ import annotations

import asyncio
import functools
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

import aiohttp
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from tenacity import AsyncRetrying
from yarl import URL

from airflow_agent_tasks.client import failures
from airflow_agent_tasks.client.pacing import Pacer
from airflow_agent_tasks.client.policy import SendPolicy
from airflow_agent_tasks.client.secrecy import hide_key
from airflow_agent_tasks.client.settings import ClientSettings
from airflow_agent_tasks.errors import AgentTaskError, AgentTaskUnavailableError
from airflow_agent_tasks.protocol.http import MAX_BODY_BYTES, Request, Response

#: What aiohttp raises where nothing can have reached the service.
_NEVER_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
)


class AsyncClient:
    """
    Sends requests from an event loop. Open one through :func:`share_client`.

    :param settings: Where and how.
    :param sleep: What waits between attempts, in seconds.
    """

    def __init__(
        self, settings: ClientSettings, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self.settings = settings
        self._sleep = sleep
        self._pacer = Pacer(settings.requests_per_second)
        self._proxy, verify = settings.resolve_network()
        self._session = aiohttp.ClientSession(
            # trust_env would look into ~/.netrc in a thread for every request and send what it finds.
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=settings.timeout, connect=settings.connect_timeout),
            connector=aiohttp.TCPConnector(ssl=_build_ssl(verify, settings)),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def send(self, request: Request, *, retries: bool = True) -> Response:
        """Send a request and return the reply, whatever its status; raises as ``SyncClient.send``."""
        policy = SendPolicy(request, retries=retries)
        retrying = AsyncRetrying(sleep=self._sleep, **policy.options())
        try:
            return policy.settle(await retrying(self._send_once, request))
        except AgentTaskUnavailableError as error:
            policy.settle_error(error)
            raise

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def _send_once(self, request: Request) -> Response:
        if pause := self._pacer.reserve(time.monotonic()):
            await self._sleep(pause)
        async with _transport_errors(request, self.settings), self._open(request) as reply:
            body = bytearray()
            async for chunk in reply.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise failures.too_large(request, self.settings, reply.status)
            headers = {name.lower(): value for name, value in reply.headers.items()}
            return hide_key(Response(reply.status, headers, bytes(body)), self.settings.api_key)

    def _open(self, request: Request) -> aiohttp.client._RequestContextManager:
        return self._session.request(
            request.method,
            # encoded: an id that was quoted must not be quoted again, or unquoted.
            URL(self.settings.build_url(request), encoded=True),
            headers={
                **self.settings.build_headers(request),
                "Authorization": f"Bearer {self.settings.api_key}",
            },
            json=request.json,
            allow_redirects=False,
            proxy=self._proxy,
        )


class _SharedClients:
    """The clients of one event loop, each with the number of those who use it."""

    def __init__(self) -> None:
        self.clients: dict[ClientSettings, tuple[AsyncClient, int]] = {}

    def take(self, settings: ClientSettings) -> AsyncClient:
        client, users = self.clients.get(settings) or (AsyncClient(settings), 0)
        self.clients[settings] = (client, users + 1)
        return client

    def give_back(self, settings: ClientSettings) -> AsyncClient | None:
        """Return the client if nobody uses it any more."""
        client, users = self.clients.pop(settings)
        if users == 1:
            return client
        self.clients[settings] = (client, users - 1)
        return None


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, _SharedClients] = WeakKeyDictionary()


@asynccontextmanager
async def share_client(settings: ClientSettings) -> AsyncIterator[AsyncClient]:
    """
    Give the one client that this event loop has for these settings, and close it after its last user.

    Leave the block before a trigger yields its event: what is awaited afterwards is cancelled.
    """
    clients = _shared.setdefault(asyncio.get_running_loop(), _SharedClients())
    client = clients.take(settings)
    try:
        yield client
    finally:
        if unused := clients.give_back(settings):
            await unused.close()


def _build_ssl(verify: bool | str, settings: ClientSettings) -> ssl.SSLContext | bool:
    if isinstance(verify, bool):
        return verify and _trust_as_requests_does()
    return settings.load_ca(verify)


@functools.cache
def _trust_as_requests_does() -> ssl.SSLContext:
    # aiohttp asks the operating system whom to trust: what works in the worker could fail in the triggerer.
    return ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH)


@asynccontextmanager
async def _transport_errors(request: Request, settings: ClientSettings) -> AsyncIterator[None]:
    """Turn the exceptions of aiohttp into ours; none of its chain is shown to the user."""
    try:
        yield
    except AgentTaskError:
        raise
    except aiohttp.ClientConnectorCertificateError:
        raise failures.bad_certificate(settings) from None
    except aiohttp.ClientConnectorSSLError:
        raise failures.no_tls(settings) from None
    except _NEVER_SENT:
        raise failures.not_sent(request, settings) from None
    except asyncio.TimeoutError:
        raise failures.too_slow(request, settings) from None
    except ValueError:
        raise failures.unusable(request, settings) from None
    except (aiohttp.ClientError, OSError):
        raise failures.cut_off(request, settings) from None
