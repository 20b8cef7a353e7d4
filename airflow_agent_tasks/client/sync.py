"""The worker's client, on requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import requests
import urllib3
from tenacity import Retrying

from airflow_agent_tasks.client import failures
from airflow_agent_tasks.client.pacing import Pacer
from airflow_agent_tasks.client.policy import SendPolicy
from airflow_agent_tasks.client.settings import STREAM_TIMEOUT, ClientSettings
from airflow_agent_tasks.errors import AgentTaskUnavailableError
from airflow_agent_tasks.protocol.http import MAX_BODY_BYTES, Request, Response

CHUNK_BYTES = 64 * 1024

#: The reasons of urllib3 for which nothing can have reached the service.
_NEVER_SENT = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.ProxyError,
)


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
        self._session = requests.Session()
        # The environment was read by resolve_network, once; a look at ~/.netrc is not wanted.
        self._session.trust_env = False
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
        except AgentTaskUnavailableError as error:
            policy.settle_error(error)
            raise

    @contextmanager
    def stream(self, request: Request) -> Iterator[tuple[Response, Iterator[bytes]]]:
        """
        Send a request once and give its reply's head, and its body piece by piece.

        The head of a refusal carries its body, so that it can be read like any other reply.
        """
        with _transport_errors(request, self.settings):
            reply = self._open(request, STREAM_TIMEOUT)
        with reply:
            if 200 <= reply.status_code < 300:
                yield _read_head(reply), self._read_chunks(request, reply)
            else:
                deadline = time.monotonic() + self.settings.timeout
                with _transport_errors(request, self.settings):
                    refusal = self._read_reply(request, reply, deadline)
                yield refusal, iter(())

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _send_once(self, request: Request) -> Response:
        self._sleep(self._pacer.reserve(time.monotonic()))
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
        with _transport_errors(request, self.settings):
            yield from reply.iter_content(None)

    def _read_reply(self, request: Request, reply: requests.Response, deadline: float) -> Response:
        body = bytearray()
        for chunk in reply.iter_content(CHUNK_BYTES):
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise failures.too_large(request, self.settings, reply.status_code)
            # requests bounds each read, not the whole: a reply that drips would hold a worker for ever.
            if time.monotonic() > deadline:
                raise failures.too_slow(request, self.settings)
        head = _read_head(reply)
        return failures.hide_key(Response(head.status, head.headers, bytes(body)), self.settings)


def _read_head(reply: requests.Response) -> Response:
    return Response(reply.status_code, {name.lower(): value for name, value in reply.headers.items()})


@contextmanager
def _transport_errors(request: Request, settings: ClientSettings) -> Iterator[None]:
    """Turn the exceptions of requests into ours; none of its chain is shown to the user."""
    try:
        yield
    except requests.exceptions.SSLError:
        raise failures.bad_certificate(settings) from None
    except (requests.exceptions.ConnectTimeout, requests.exceptions.ProxyError):
        raise failures.not_sent(request, settings) from None
    except requests.exceptions.Timeout:
        raise failures.too_slow(request, settings) from None
    except requests.exceptions.ConnectionError as error:
        reason = getattr(error.args[0] if error.args else None, "reason", None)
        if isinstance(reason, _NEVER_SENT):
            raise failures.not_sent(request, settings) from None
        if isinstance(error.args[0] if error.args else None, urllib3.exceptions.ReadTimeoutError):
            raise failures.too_slow(request, settings) from None
        raise failures.cut_off(request, settings) from None
    except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError):
        raise failures.cut_off(request, settings) from None
    except (OSError, requests.exceptions.RequestException) as error:
        raise failures.unusable(request, settings, error) from None
