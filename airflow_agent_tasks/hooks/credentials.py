"""From an Airflow connection to client settings: which fields are read, and what each may hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_agent_tasks.client.settings import DEFAULT_TIMEOUT, ClientSettings
from airflow_agent_tasks.errors import AgentTaskConfigurationError
from airflow_agent_tasks.protocol.http import shorten

if TYPE_CHECKING:
    from airflow.sdk import Connection

_BOOLEANS = {"true": True, "false": False, "": None}


def build_settings(
    connection: Connection, extra: Mapping[str, Any], *, default_base_url: str
) -> ClientSettings:
    """
    Read a connection into client settings; only named extras are read.

    :param connection: The Airflow connection.
    :param extra: Its extra, parsed.
    :param default_base_url: The address where the connection's host is empty.
    :raises AgentTaskConfigurationError: for a field that cannot be used, naming it.
    """
    source = f"connection {connection.conn_id!r}"
    verify = extra.get("verify")
    return ClientSettings(
        base_url=_read_base_url(connection, default_base_url),
        api_key=(connection.password or "").strip(),
        timeout=_read_number(extra, "timeout", source) or DEFAULT_TIMEOUT,
        verify=_read_verify(verify),
        proxy=extra.get("proxy") or None,
        requests_per_second=_read_number(extra, "requests_per_second", source),
        allow_insecure_http=_read_boolean(extra, "allow_insecure_http", source),
        source=source,
    )


def list_secrets(settings: ClientSettings) -> list[str]:
    """Return what must never be readable in a log: the key, and a password inside the proxy's URL."""
    proxy_password = urlsplit(settings.proxy).password if settings.proxy else None
    return [settings.api_key, *([proxy_password] if proxy_password else [])]


def _read_base_url(connection: Connection, default: str) -> str:
    host = (connection.host or "").strip()
    if not host:
        return default
    # A connection given as a URI has its scheme in ``schema`` or nowhere, and its port apart.
    if "://" not in host:
        host = f"{connection.schema or 'https'}://{host}"
    if connection.port and urlsplit(host).port is None:
        host = f"{host}:{connection.port}"
    return host


def _read_number(extra: Mapping[str, Any], name: str, source: str) -> float | None:
    value = extra.get(name)
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number <= 0 or isinstance(value, bool):
        raise AgentTaskConfigurationError(
            f"The extra field {name!r} of {source} must be a number above 0, not {shorten(repr(value))}."
        )
    return number


def _read_boolean(extra: Mapping[str, Any], name: str, source: str) -> bool:
    value = extra.get(name)
    if isinstance(value, str):
        value = _BOOLEANS.get(value.strip().lower(), value)
    if value not in (True, False, None):
        raise AgentTaskConfigurationError(
            f"The extra field {name!r} of {source} must be true or false, not {shorten(repr(value))}."
        )
    return bool(value)


def _read_verify(value: Any) -> bool | str:
    if isinstance(value, str):
        value = _BOOLEANS.get(value.strip().lower(), value)
    return True if value is None else value
