"""Connections in the environment, and servers of raw bytes behind them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.hooks.lightcone import LightconeHook
from airflow_agent_tasks.hooks.shinzo import ShinzoHook
from tests.raw_server import NETWORK_VARIABLES, RawServer

KEY = "sk_very_secret_0123456789"


@dataclass(frozen=True)
class Service:
    """What differs between the services in a test that is the same for both."""

    name: str
    hook_class: type[AgentTaskHook]
    start: dict[str, Any]
    status_path: str
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def conn_id(self) -> str:
        return f"{self.name}_default"

    def hook(self, conn_id: str | None = None) -> AgentTaskHook:
        return self.hook_class(conn_id or self.conn_id)

    def __str__(self) -> str:
        return self.name


SERVICES = (
    Service("lightcone", LightconeHook, {"instruction": "Go."}, "/agent/tasks/{}"),
    Service("shinzo", ShinzoHook, {"message": "Go."}, "/agent/agt_1/task/{}", {"agent_id": "agt_1"}),
)


@pytest.fixture(params=SERVICES, ids=str)
def service(request: pytest.FixtureRequest) -> Service:
    """Either service; the test runs once for each."""
    found: Service = request.param
    return found


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NETWORK_VARIABLES, "TZAFON_API_KEY", "LIGHTCONE_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that makes a connection and returns its id; a URI, or the fields of one."""

    def make(conn_id: str, uri: str | None = None, **fields: Any) -> str:
        value = uri if uri is not None else json.dumps({"password": KEY, **fields})
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", value)
        return conn_id

    return make


@pytest.fixture
def hook_for(connect: Callable[..., str]) -> Callable[..., AgentTaskHook]:
    """Return a function that makes the hook of a service for a server."""

    def make(service: Service | str, server: RawServer | str, **extra: Any) -> AgentTaskHook:
        if isinstance(service, str):
            service = next(known for known in SERVICES if known.name == service)
        host = server if isinstance(server, str) else server.url
        connect(service.conn_id, conn_type=service.name, host=host, extra={**service.extra, **extra})
        return service.hook()

    return make
