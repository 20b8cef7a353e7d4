"""The worker's client, on requests."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy

import requests
import urllib3
from tenacity import Retrying

from airflow_agent_tasks.client import transport_errors
from airflow_agent_tasks.client.content_encoding import unpack
from airflow_agent_tasks.client.deadline import Deadline
from airflow_agent_tasks.client.redaction import Redactor
from airflow_agent_tasks.client.retry_policy import RetryPolicy
from airflow_agent_tasks.client.settings import STREAM_TIMEOUT, ClientSettings
from airflow_agent_tasks.client.worker_connections import Adapter, HandshakeError
from airflow_agent_tasks.errors import AgentTaskError, AgentTaskRequestError
from airflow_agent_tasks.services.http import MAX_BODY_BYTES, Request, Response

CHUNK_BYTES = 64 * 1024

_TIMEOUTS = (TimeoutError, requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)
#: The exceptions that are raised before a request is sent, other than those for invalid settings.
_NO_CONNECTION = (
    TimeoutError,
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    urllib3.exceptions.HTTPError,
)


class _Session(requests.Session):
    def __init__(self, verify: bool | str) -> None:
        super().__init__()
        # resolve_network has read the environment; ~/.netrc must not be read at all.
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = Adapter(verify)
        self.mount("https://", adapter)
        self.mount("http://", adapter)

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
        self._redactor = Redactor(settings.api_key, self._proxy)
        self._session = _Session(self._verify)
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
    def stream(self, request: Request) -> Iterator[tuple[Response, Chunks]]:
        """
        Send a request once; yield the head of its response and the chunks of its body.

        The head must arrive within the timeout. Events may continue for hours, with gaps of at most 300 s.
        The head of an error response includes its body, so that it can be read like any other response.
        """
        deadline = Deadline(self.settings.timeout)
        with self._transport_errors(request, deadline), deadline:
            response = self._open(request)
        with response:
            if 200 <= response.status_code < 300:
                yield (
                    self._redactor.build_response(response.status_code, response.headers),
                    Chunks(lambda limit: self._read_chunks(request, response, limit)),
                )
            else:
                with self._transport_errors(request, deadline), deadline:
                    error_response = self._read_response(request, response, deadline)
                yield error_response, Chunks(lambda limit: iter(()))

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _send_once(self, request: Request) -> Response:
        self._wait_for_rate_limit()
        deadline = Deadline(self.settings.timeout)
        with self._transport_errors(request, deadline), deadline, self._open(request) as response:
            return self._read_response(request, response, deadline)

    def _wait_for_rate_limit(self) -> None:
        if self.settings.requests_per_second is None:
            return
        now = time.monotonic()
        send_at = max(now, self._next_request_at)
        self._next_request_at = send_at + 1.0 / self.settings.requests_per_second
        if send_at > now:
            self._sleep(send_at - now)

    def _open(self, request: Request) -> requests.Response:
        return self._session.request(
            request.method,
            self.settings.build_url(request.path),
            headers=self.settings.build_headers(request.accept),
            json=request.json,
            # The deadline limits everything; this timeout only makes the connection fail before the request.
            timeout=(self.settings.connect_timeout, self.settings.timeout),
            allow_redirects=False,
            stream=True,
            verify=self._verify,
            proxies={"http": self._proxy, "https": self._proxy} if self._proxy else None,
        )

    def _read_chunks(
        self, request: Request, response: requests.Response, limit: Callable[[], Deadline]
    ) -> Iterator[bytes]:
        yield from self._redactor.redact_chunks(self._read_events(request, response, limit))

    def _read_events(
        self, request: Request, response: requests.Response, limit: Callable[[], Deadline]
    ) -> Iterator[bytes]:
        while True:
            deadline = limit()
            deadline.is_sent = True
            with self._transport_errors(request, deadline, transport_errors.too_silent), deadline:
                # read1 returns the bytes that have arrived. iter_content would wait for a full chunk, and
                # so delay an event until the next ones arrive.
                chunk = response.raw.read1(CHUNK_BYTES, decode_content=True)
            if not chunk:
                return
            yield chunk

    def _read_response(self, request: Request, response: requests.Response, deadline: Deadline) -> Response:
        received = bytearray()
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
            received += chunk
            if len(received) > MAX_BODY_BYTES:
                raise transport_errors.too_large(request, self.settings, response.status_code)
        encoding = response.headers.get("Content-Encoding", "")
        body = unpack(encoding, bytes(received), MAX_BODY_BYTES, deadline.check)
        if body is None:
            raise transport_errors.too_large(request, self.settings, response.status_code)
        return self._redactor.build_response(response.status_code, response.headers, body)

    @contextmanager
    def _transport_errors(
        self,
        request: Request,
        deadline: Deadline,
        too_slow: Callable[[Request, ClientSettings], AgentTaskRequestError] = transport_errors.too_slow,
    ) -> Iterator[None]:
        """Turn the exceptions of the libraries into ours, without their chain, which may contain the key."""
        try:
            yield
        except AgentTaskError:
            raise
        # The exceptions of requests are OSErrors.
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
            if not deadline.is_sent:
                raise _explain_unsent(error, request, self.settings) from None
            if deadline.seconds_left <= 0 or isinstance(error, _TIMEOUTS):
                raise too_slow(request, self.settings) from None
            raise transport_errors.cut_off(request, self.settings) from None


class Chunks:
    """
    An iterator over the chunks of a streamed body.

    :param read: Returns them; each wait for a chunk runs under a deadline that its argument returns.
    """

    def __init__(self, read: Callable[[Callable[[], Deadline]], Iterator[bytes]]) -> None:
        self._chunks = read(self._begin_wait)
        self._deadline = Deadline(STREAM_TIMEOUT)
        self._is_closed = False

    def __iter__(self) -> Chunks:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        """Cut the connection, from any thread; the iteration then ends with an error."""
        self._is_closed = True
        self._deadline.cancel()

    def _begin_wait(self) -> Deadline:
        self._deadline = Deadline(STREAM_TIMEOUT)
        if self._is_closed:
            self._deadline.cancel()
        return self._deadline


def _explain_unsent(error: Exception, request: Request, settings: ClientSettings) -> AgentTaskError:
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    if isinstance(reason, HandshakeError):
        is_certificate = isinstance(reason.__cause__, ssl.SSLCertVerificationError)
        return (transport_errors.bad_certificate if is_certificate else transport_errors.no_tls)(settings)
    if isinstance(error, _NO_CONNECTION):
        return transport_errors.not_sent(request, settings)
    return transport_errors.unusable(request, settings)
