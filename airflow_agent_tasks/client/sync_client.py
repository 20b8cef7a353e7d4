"""The worker's client, on requests."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from tenacity import Retrying

from airflow_agent_tasks.client import transport_errors
from airflow_agent_tasks.client.pacing import Pacer
from airflow_agent_tasks.client.redaction import hide_key, hide_key_in_pieces
from airflow_agent_tasks.client.retry_policy import SendPolicy
from airflow_agent_tasks.client.settings import STREAM_TIMEOUT, ClientSettings
from airflow_agent_tasks.errors import AgentTaskError, AgentTaskRequestError
from airflow_agent_tasks.services.http import MAX_BODY_BYTES, Request, Response

CHUNK_BYTES = 64 * 1024

#: The reasons of urllib3 for which nothing can have reached the service.
_NEVER_SENT = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.ProxyError,
)


class _HandshakeError(urllib3.exceptions.NewConnectionError):
    """The other side speaks no TLS, or its certificate is not trusted."""


class _HTTPSConnection(urllib3.connection.HTTPSConnection):
    # Else urllib3 reports a failing handshake like a reply that was cut: the request would count as sent.
    def connect(self) -> None:
        try:
            super().connect()
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            raise urllib3.exceptions.NewConnectionError(self, str(error)) from error
        except ssl.SSLError as error:
            raise _HandshakeError(self, str(error)) from error
        except OSError as error:
            raise urllib3.exceptions.NewConnectionError(self, str(error)) from error


class _Adapter(HTTPAdapter):
    def get_connection_with_tls_context(
        self, *args: Any, **kwargs: Any
    ) -> urllib3.connectionpool.ConnectionPool:
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        if isinstance(pool, urllib3.HTTPSConnectionPool):
            pool.ConnectionCls = _HTTPSConnection
        return pool


class _Session(requests.Session):
    def __init__(self) -> None:
        super().__init__()
        # The environment was read by resolve_network, once; a look at ~/.netrc is not wanted.
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.mount("https://", _Adapter())

    # requests reads the whole body of a redirect, of whatever size, even where it is not to follow it.
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


class _BearerAuth(requests.auth.AuthBase):
    # An auth object, because requests would put a matching ~/.netrc entry over a plain header.
    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        prepared.headers["Authorization"] = f"Bearer {self._api_key}"
        return prepared


class SyncClient:
    """
    Sends requests from a worker.

    :param settings: Where and how.
    :param sleep: What waits between attempts, in seconds.
    """

    def __init__(self, settings: ClientSettings, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.settings = settings
        self._sleep = sleep
        self._pacer = Pacer(settings.requests_per_second)
        self._proxy, self._verify = settings.resolve_network()
        self._session = _Session()
        self._session.auth = _BearerAuth(settings.api_key)

    def send(self, request: Request, *, retries: bool = True) -> Response:
        """
        Send a request and return the reply, whatever its status.

        :param request: What to send.
        :param retries: False for a single attempt.
        :raises AgentTaskUnavailableError: when no reply came, although it was tried again.
        :raises AgentTaskUncertainError: when no reply came and the request may have been carried out.
        :raises AgentTaskReplyError: when the reply is too large.
        :raises AgentTaskConfigurationError: when the connection's settings cannot work.
        """
        policy = SendPolicy(request, retries=retries)
        try:
            return policy.settle(Retrying(sleep=self._sleep, **policy.options())(self._send_once, request))
        except AgentTaskError as error:
            policy.settle_error(error)
            raise

    @contextmanager
    def stream(self, request: Request) -> Iterator[tuple[Response, Iterator[bytes]]]:
        """
        Send a request once and give its reply's head, and its body piece by piece.

        The head of a refusal carries its body, so that it can be read like any other reply.
        """
        with _transport_errors(request, self.settings, transport_errors.too_silent):
            reply = self._open(request, STREAM_TIMEOUT)
        with reply:
            if 200 <= reply.status_code < 300:
                yield hide_key(_read_head(reply), self.settings.api_key), self._read_chunks(request, reply)
            else:
                deadline = time.monotonic() + self.settings.timeout
                with _transport_errors(request, self.settings):
                    refusal = self._read_reply(request, reply, deadline)
                yield refusal, iter(())

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _send_once(self, request: Request) -> Response:
        if pause := self._pacer.reserve(time.monotonic()):
            self._sleep(pause)
        deadline = time.monotonic() + self.settings.timeout
        with _transport_errors(request, self.settings), self._open(request, self.settings.timeout) as reply:
            return self._read_reply(request, reply, deadline)

    def _open(self, request: Request, read_timeout: float) -> requests.Response:
        return self._session.request(
            request.method,
            self.settings.build_url(request),
            headers=self.settings.build_headers(request),
            json=request.json,
            timeout=(self.settings.connect_timeout, read_timeout),
            allow_redirects=False,
            stream=True,
            verify=self._verify,
            proxies={"http": self._proxy, "https": self._proxy} if self._proxy else None,
        )

    def _read_chunks(self, request: Request, reply: requests.Response) -> Iterator[bytes]:
        with _transport_errors(request, self.settings, transport_errors.too_silent):
            yield from hide_key_in_pieces(_read_pieces(reply), self.settings.api_key)

    def _read_reply(self, request: Request, reply: requests.Response, deadline: float) -> Response:
        body = bytearray()
        for chunk in _read_pieces(reply):
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise transport_errors.too_large(request, self.settings, reply.status_code)
            # requests bounds each read, not the whole: a reply that drips would hold a worker for ever.
            if time.monotonic() > deadline:
                raise transport_errors.too_slow(request, self.settings)
        head = _read_head(reply)
        return hide_key(Response(head.status, head.headers, bytes(body)), self.settings.api_key)


def _read_head(reply: requests.Response) -> Response:
    return Response(reply.status_code, {name.lower(): value for name, value in reply.headers.items()})


def _read_pieces(reply: requests.Response) -> Iterator[bytes]:
    # read1 returns what has arrived. iter_content waits for a full piece: a reply that drips would be read
    # for ever, and an event would be told after the next ones.
    while piece := reply.raw.read1(CHUNK_BYTES, decode_content=True):
        yield piece


@contextmanager
def _transport_errors(
    request: Request,
    settings: ClientSettings,
    too_slow: Callable[[Request, ClientSettings], AgentTaskRequestError] = transport_errors.too_slow,
) -> Iterator[None]:
    """Turn the exceptions of requests and urllib3 into ours; none of their chain is shown to the user."""
    try:
        yield
    except (requests.exceptions.ConnectTimeout, requests.exceptions.ProxyError):
        raise transport_errors.not_sent(request, settings) from None
    except (requests.exceptions.Timeout, urllib3.exceptions.ReadTimeoutError):
        raise too_slow(request, settings) from None
    except requests.exceptions.ConnectionError as error:
        reason = getattr(error.args[0] if error.args else None, "reason", None)
        if isinstance(reason, _HandshakeError):
            is_certificate = isinstance(reason.__cause__, ssl.SSLCertVerificationError)
            raise (transport_errors.bad_certificate if is_certificate else transport_errors.no_tls)(
                settings
            ) from None
        if isinstance(reason, _NEVER_SENT):
            raise transport_errors.not_sent(request, settings) from None
        raise transport_errors.cut_off(request, settings) from None
    except (urllib3.exceptions.HTTPError, requests.exceptions.InvalidHeader):
        raise transport_errors.cut_off(request, settings) from None
    except (OSError, ValueError):
        raise transport_errors.unusable(request, settings) from None
