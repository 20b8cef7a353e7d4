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
from airflow_agent_tasks.client.redaction import redact_key, redact_key_in_chunks
from airflow_agent_tasks.client.retry_policy import RetryPolicy
from airflow_agent_tasks.client.settings import STREAM_TIMEOUT, ClientSettings
from airflow_agent_tasks.errors import AgentTaskError, AgentTaskRequestError
from airflow_agent_tasks.services.http import MAX_BODY_BYTES, Request, Response

CHUNK_BYTES = 64 * 1024

#: The reasons of urllib3 if nothing can have reached the service.
_NEVER_SENT = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.ProxyError,
)


class _HandshakeError(urllib3.exceptions.NewConnectionError):
    """The server does not speak TLS, or its certificate is not trusted."""


class _HTTPSConnection(urllib3.connection.HTTPSConnection):
    # urllib3 reports a failed handshake like a truncated response: the request would count as sent.
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
        # resolve_network has read the environment; ~/.netrc must not be read at all.
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.mount("https://", _Adapter())

    # requests reads the whole body of a redirect, whatever its size, even if it must not follow it.
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


class _BearerAuth(requests.auth.AuthBase):
    # An auth object, because requests lets a matching ~/.netrc entry override a plain header.
    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        prepared.headers["Authorization"] = f"Bearer {self._api_key}"
        return prepared


class SyncClient:
    """
    Sends requests from a worker.

    :param settings: Where to send requests and how.
    :param sleep: Waits for a retry or for the rate limit; takes seconds.
    """

    def __init__(self, settings: ClientSettings, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.settings = settings
        self._sleep = sleep
        self._next_request_at = 0.0
        self._proxy, self._verify = settings.resolve_network()
        self._session = _Session()
        self._session.auth = _BearerAuth(settings.api_key)

    def send(self, request: Request, *, retries: bool = True) -> Response:
        """
        Send a request and return the response, whatever its status.

        :param request: The request to send.
        :param retries: False for a single attempt; default True.
        :raises AgentTaskUnavailableError: if no response came, after all retries.
        :raises AgentTaskUncertainError: if no response came and the request may have been carried out.
        :raises AgentTaskReplyError: if the response is too large.
        :raises AgentTaskConfigurationError: if the connection's settings are unusable.
        """
        policy = RetryPolicy(request, retries=retries)
        try:
            return policy.finish(Retrying(sleep=self._sleep, **policy.options())(self._send_once, request))
        except AgentTaskError as error:
            policy.finish_with_error(error)
            raise

    @contextmanager
    def stream(self, request: Request) -> Iterator[tuple[Response, Iterator[bytes]]]:
        """
        Send a request once; yield the head of its response and an iterator over the chunks of its body.

        The head of an error response includes its body, so that it can be read like any other response.
        """
        with _transport_errors(request, self.settings, transport_errors.too_silent):
            response = self._open(request, STREAM_TIMEOUT)
        with response:
            if 200 <= response.status_code < 300:
                yield (
                    redact_key(_read_head(response), self.settings.api_key),
                    self._read_chunks(request, response),
                )
            else:
                deadline = time.monotonic() + self.settings.timeout
                with _transport_errors(request, self.settings):
                    error_response = self._read_response(request, response, deadline)
                yield error_response, iter(())

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _send_once(self, request: Request) -> Response:
        self._wait_for_rate_limit()
        deadline = time.monotonic() + self.settings.timeout
        with (
            _transport_errors(request, self.settings),
            self._open(request, self.settings.timeout) as response,
        ):
            return self._read_response(request, response, deadline)

    def _wait_for_rate_limit(self) -> None:
        if self.settings.requests_per_second is None:
            return
        now = time.monotonic()
        send_at = max(now, self._next_request_at)
        self._next_request_at = send_at + 1.0 / self.settings.requests_per_second
        if send_at > now:
            self._sleep(send_at - now)

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

    def _read_chunks(self, request: Request, response: requests.Response) -> Iterator[bytes]:
        with _transport_errors(request, self.settings, transport_errors.too_silent):
            yield from redact_key_in_chunks(_read_body(response), self.settings.api_key)

    def _read_response(self, request: Request, response: requests.Response, deadline: float) -> Response:
        body = bytearray()
        for chunk in _read_body(response):
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise transport_errors.too_large(request, self.settings, response.status_code)
            # requests limits each read, not the whole: a response that trickles in would block a worker for
            # ever.
            if time.monotonic() > deadline:
                raise transport_errors.too_slow(request, self.settings)
        head = _read_head(response)
        return redact_key(Response(head.status, head.headers, bytes(body)), self.settings.api_key)


def _read_head(response: requests.Response) -> Response:
    return Response(response.status_code, {name.lower(): value for name, value in response.headers.items()})


def _read_body(response: requests.Response) -> Iterator[bytes]:
    # read1 returns what has arrived. iter_content waits for a full chunk: a response that trickles in would
    # be read for ever, and an event would arrive after the next ones.
    while chunk := response.raw.read1(CHUNK_BYTES, decode_content=True):
        yield chunk


@contextmanager
def _transport_errors(
    request: Request,
    settings: ClientSettings,
    too_slow: Callable[[Request, ClientSettings], AgentTaskRequestError] = transport_errors.too_slow,
) -> Iterator[None]:
    """Turn the exceptions of requests and urllib3 into ours, without their chain, which may hold the key."""
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
