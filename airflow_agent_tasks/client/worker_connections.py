"""The connections of the worker's client: urllib3's, under one deadline for each request."""

from __future__ import annotations

import http.client
import socket
import ssl
from pathlib import Path
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.ssl_ import create_urllib3_context

from airflow_agent_tasks.client import deadline
from airflow_agent_tasks.client.deadline import Deadline, LimitedTLSSocket


class HandshakeError(urllib3.exceptions.NewConnectionError):
    """The server does not speak TLS, or its certificate is not trusted."""


class _Response(http.client.HTTPResponse):
    # Python takes 102, 103 and any other 1xx status for the final response.
    def begin(self) -> None:
        self._begin()
        while 100 <= self.status < 200 and self.status != http.HTTPStatus.SWITCHING_PROTOCOLS:
            self.headers = self.msg = None  # type: ignore[assignment]
            self._begin()

    def _begin(self) -> None:
        super().begin()
        # Python skips a line that is not a header and all lines after it; urllib3 writes them to the log.
        if self.msg.get_payload():
            raise http.client.HTTPException("a line in the head is not a header")


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _Response

    def _new_conn(self) -> socket.socket:
        try:
            return deadline.connect(self._dns_host, self.port or self.default_port, self.socket_options or ())
        except OSError as error:
            raise urllib3.exceptions.NewConnectionError(self, str(error)) from error

    def connect(self) -> None:
        with Deadline(float(self.timeout or 0), is_part=True):
            super().connect()

    def request(self, *args: Any, **kwargs: Any) -> None:
        # Connected first: a request that fails before this mark was not sent.
        if self.sock is None:
            self.connect()
        deadline.mark_sent()
        super().request(*args, **kwargs)


class _TLSConnection(_Connection, urllib3.connection.HTTPSConnection):
    # urllib3 reports a failed handshake like a truncated response.
    def connect(self) -> None:
        try:
            super().connect()
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            raise urllib3.exceptions.NewConnectionError(self, str(error)) from error
        except ssl.SSLError as error:
            raise HandshakeError(self, str(error)) from error
        except OSError as error:
            raise urllib3.exceptions.NewConnectionError(self, str(error)) from error


class Adapter(HTTPAdapter):
    """
    Opens the connections of requests.

    :param verify: True, False, or the path of a CA file or folder, as requests takes it.
    """

    def __init__(self, verify: bool | str) -> None:
        self._verify = verify
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=_build_context(self._verify))

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        kwargs["ssl_context"] = _build_context(self._verify)
        if proxy.lower().startswith("https:"):
            # urllib3 loads the CAs into the service's context only.
            kwargs["proxy_ssl_context"] = _build_context(self._verify, load=True)
        return super().proxy_manager_for(proxy, **kwargs)

    def get_connection_with_tls_context(
        self, *args: Any, **kwargs: Any
    ) -> urllib3.connectionpool.ConnectionPool:
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        if isinstance(pool, urllib3.HTTPConnectionPool):
            is_tls = isinstance(pool, urllib3.HTTPSConnectionPool)
            pool.ConnectionCls = _TLSConnection if is_tls else _Connection
        return pool


def _build_context(verify: bool | str, *, load: bool = False) -> ssl.SSLContext:
    context = create_urllib3_context(cert_reqs=ssl.CERT_NONE if verify is False else ssl.CERT_REQUIRED)
    context.sslsocket_class = LimitedTLSSocket
    if load and verify is not False:
        path = DEFAULT_CA_BUNDLE_PATH if verify is True else verify
        is_folder = Path(path).is_dir()
        context.load_verify_locations(None if is_folder else path, path if is_folder else None)
    return context
