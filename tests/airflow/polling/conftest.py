"""The connection ``c1`` and servers behind it."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.raw_server import NETWORK_VARIABLES, RawServer


@pytest.fixture
def nothing_is_left_open(caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> Iterator[None]:
    """Fail where a client session is never closed."""
    for name in NETWORK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    yield
    gc.collect()
    assert "Unclosed" not in caplog.text


@pytest.fixture
def connect(monkeypatch: Any) -> Callable[..., None]:
    """Return a function that points the connection ``c1`` to a server."""

    def connect(server: RawServer | str, key: str = "sk_1", **extra: Any) -> None:
        url = server if isinstance(server, str) else server.url
        connection = {"conn_type": "lightcone", "host": url, "password": key, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_C1", json.dumps(connection))

    return connect


@pytest.fixture
def lookups(mocker: Any) -> Any:
    """Airflow's connection lookup, which takes 50 ms and counts its calls."""
    # Imported here: pytest may load this file before the database is chosen.
    from airflow.sdk import BaseHook

    look_up = BaseHook.aget_connection

    async def look_up_slowly(conn_id: str) -> Any:
        await asyncio.sleep(0.05)
        return await look_up(conn_id)

    return mocker.patch.object(BaseHook, "aget_connection", side_effect=look_up_slowly)
