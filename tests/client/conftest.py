"""Both clients behind one face, and servers of raw bytes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from airflow_agent_tasks.client.async_client import AsyncClient
from airflow_agent_tasks.client.settings import ClientSettings
from airflow_agent_tasks.client.sync_client import SyncClient
from airflow_agent_tasks.services.http import Request, Response
from airflow_agent_tasks.services.lightcone import LightconeDialect
from lab.benchmarks.tls_certificate import write_certificate
from tests.raw_server import NETWORK_VARIABLES, RawServer

KEY = "sk_very_secret_0123456789"

_dialect = LightconeDialect()


@pytest.fixture(autouse=True)
def _no_network_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NETWORK_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@dataclass(frozen=True)
class Requests:
    """The requests that the tests send."""

    status: Request = field(default_factory=lambda: _dialect.build_status("t1"))
    start: Request = field(default_factory=lambda: _dialect.build_start({"instruction": "Go."}))
    keyed_start: Request = field(
        default_factory=lambda: _dialect.build_start({"instruction": "Go.", "idempotency_key": "k1"})
    )
    pause: Request = field(default_factory=lambda: _dialect.build_action(_dialect.stop_capability, "t1"))


@pytest.fixture
def requests_to_send() -> Requests:
    return Requests()


class Send(Protocol):
    """Sends requests one after the other with one client, and returns the last reply."""

    #: What the injected sleep was told, in seconds; it never sleeps.
    sleeps: list[float]

    def __call__(self, settings: ClientSettings, *requests: Request, retries: bool = True) -> Response: ...


class SyncSend:
    def __init__(self) -> None:
        self.sleeps: list[float] = []

    def __call__(self, settings: ClientSettings, *requests: Request, retries: bool = True) -> Response:
        client = SyncClient(settings, sleep=self.sleeps.append)
        try:
            return [client.send(request, retries=retries) for request in requests][-1]
        finally:
            client.close()


class AsyncSend:
    def __init__(self) -> None:
        self.sleeps: list[float] = []

    def __call__(self, settings: ClientSettings, *requests: Request, retries: bool = True) -> Response:
        return asyncio.run(self._send(settings, requests, retries))

    async def _send(self, settings: ClientSettings, requests: tuple[Request, ...], retries: bool) -> Response:
        client = await AsyncClient.open(settings, sleep=self._sleep)
        try:
            return [await client.send(request, retries=retries) for request in requests][-1]
        finally:
            await client.close()

    async def _sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)


SENDERS: dict[str, Callable[[], Send]] = {"sync": SyncSend, "async": AsyncSend}


@pytest.fixture(params=SENDERS)
def send(request: pytest.FixtureRequest) -> Send:
    """Either client; the test runs once with each."""
    return SENDERS[request.param]()


@pytest.fixture
def send_with_both() -> Callable[..., list[Any]]:
    """Return a function that sends with each client, and returns both replies or errors."""

    def send_each(settings: ClientSettings, request: Request, *, retries: bool = False) -> list[Any]:
        outcomes: list[Any] = []
        for sender in SENDERS.values():
            try:
                outcomes.append(sender()(settings, request, retries=retries))
            except Exception as error:
                outcomes.append(error)
        return outcomes

    return send_each


@pytest.fixture
def settings_for() -> Callable[..., ClientSettings]:
    """Return a function that makes settings for a server."""

    def make(server: RawServer | str, **more: Any) -> ClientSettings:
        url = server if isinstance(server, str) else server.url
        return ClientSettings(base_url=url, api_key=KEY, source="connection 'c1'", **more)

    return make


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a self-signed certificate of 127.0.0.1 in one file."""
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    write_certificate(path)
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    """A server's side of TLS, with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
