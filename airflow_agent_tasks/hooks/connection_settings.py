"""Converts an Airflow connection to client settings, and validates its fields."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from urllib.request import getproxies

from airflow_agent_tasks.client.settings import DEFAULT_TIMEOUT, ClientSettings
from airflow_agent_tasks.connection_form import (
    LARGEST_COUNT,
    LARGEST_NUMBER,
    SMALLEST_NUMBER,
    ConnectionForm,
)
from airflow_agent_tasks.errors import AgentTaskConfigurationError, AgentTaskConnectionNotFoundError
from airflow_agent_tasks.hooks.task_url import is_usable_pattern
from airflow_agent_tasks.services.base import Capability, Dialect
from airflow_agent_tasks.services.http import ID_RULE, is_usable_id
from airflow_agent_tasks.text import shorten

if TYPE_CHECKING:
    from airflow.sdk import Connection

_BOOLEANS = {"true": True, "false": False, "": None}
_HAS_PORT = re.compile(r":\d+$")
#: How many unknown extra fields one message names, and how many characters of each name it shows.
_SHOWN_NAMES, _SHOWN_CHARACTERS = 5, 40


def read_extra(connection: Connection) -> Mapping[str, Any]:
    """
    Return a connection's extra.

    Airflow's own reader treats an extra that is not JSON as an empty one, and masks secrets in a way that
    blocks triggers.

    :raises AgentTaskConfigurationError: for an extra that is not a JSON object.
    """
    try:
        extra = json.loads(connection.extra or "{}")
    except (ValueError, RecursionError):
        extra = None
    if not isinstance(extra, Mapping):
        raise AgentTaskConfigurationError(f"The extra of {_name(connection)} must be a JSON object.")
    return extra


def build_settings(connection: Connection, extra: Mapping[str, Any], dialect: Dialect) -> ClientSettings:
    """
    Return the client settings of a connection.

    :param connection: The Airflow connection.
    :param extra: Its parsed extra.
    :param dialect: The service's dialect, which has the base URL if the connection has no host.
    :raises AgentTaskConfigurationError: for an unusable field, which it names.
    """
    source = _name(connection)
    return ClientSettings(
        base_url=_read_base_url(connection, dialect.default_base_url),
        api_key=(connection.password or "").strip(),
        timeout=_read_number(extra, "timeout", source) or DEFAULT_TIMEOUT,
        verify=_read_verify(extra, source),
        proxy=read_text(extra, "proxy", source),
        requests_per_second=_read_number(extra, "requests_per_second", source),
        max_concurrent_tasks=_read_count(extra, "max_concurrent_tasks", source),
        allow_insecure_http=_read_boolean(extra, "allow_insecure_http", source),
        task_url=_read_task_url(extra, source, dialect),
        source=source,
    )


def connection_not_found(conn_id: str) -> AgentTaskConnectionNotFoundError:
    """Return the error of a connection that does not exist, or cannot be read."""
    return AgentTaskConnectionNotFoundError(
        f"The connection {conn_id!r} does not exist or could not be read. Add it under Admin → Connections "
        f"with your service's key as its password, or set AIRFLOW_CONN_{conn_id.upper()}."
    )


def list_secrets(settings: ClientSettings) -> list[str]:
    """
    Return the secrets that must never appear in a log: the key, and the credentials in proxies' URLs.

    This includes the proxies of the environment, because the error of a request may show the proxy it used.
    """
    proxies = [settings.proxy, *getproxies().values()]
    credentials = [part for proxy in proxies if proxy for part in _list_credentials(proxy)]
    return list(dict.fromkeys([settings.api_key, *credentials]))


def _list_credentials(proxy: str) -> list[str]:
    # Without urlsplit: a proxy in the environment needs no scheme, and a password may contain "/" or "#".
    credentials, at, _ = (
        proxy.partition("://")[2].rpartition("@") if "://" in proxy else proxy.rpartition("@")
    )
    parts = [credentials, *credentials.split(":", 1)] if at else []
    return [form for part in parts for form in dict.fromkeys((part, unquote(part))) if form]


def describe_unknown(extra: Mapping[str, Any], form: ConnectionForm, source: str) -> str:
    """Return a warning that names the unknown extra fields, or an empty string."""
    unknown = sorted(str(name) for name in set(extra) - {field.name for field in form.fields})
    if not unknown:
        return ""
    shown = ", ".join(repr(shorten(name, _SHOWN_CHARACTERS)) for name in unknown[:_SHOWN_NAMES])
    more = f" and {len(unknown) - _SHOWN_NAMES} more" if len(unknown) > _SHOWN_NAMES else ""
    known = ", ".join(field.name for field in form.fields)
    return f"Extra fields of {source} that have no effect: {shown}{more}. {form.hook_name} uses {known}."


def read_text(extra: Mapping[str, Any], name: str, source: str) -> str | None:
    """Return a text field of the extra, or None; raises AgentTaskConfigurationError for other types."""
    value = extra.get(name)
    if value is not None and not isinstance(value, str):
        raise _wrong(name, source, "a string", value)
    return (value or "").strip() or None


def read_id(extra: Mapping[str, Any], name: str, source: str) -> str | None:
    """Return the id in a field of the extra, or None; raises AgentTaskConfigurationError."""
    value = read_text(extra, name, source)
    if value and not is_usable_id(value):
        raise _wrong(name, source, f"an id ({ID_RULE})", value)
    return value


def _name(connection: Connection) -> str:
    return f"connection {connection.conn_id!r}"


def _wrong(name: str, source: str, allowed: str, value: Any) -> AgentTaskConfigurationError:
    # Without the value: someone may have put a password into any field by mistake.
    return AgentTaskConfigurationError(
        f"The extra field {name!r} of {source} must be {allowed}. Its value has the type "
        f"{type(value).__name__} and is not shown, because it may be a password."
    )


def _read_base_url(connection: Connection, default: str) -> str:
    host = (connection.host or "").strip()
    if not host:
        return default
    # A connection from a URI has its scheme in ``schema`` or nowhere, and its port in ``port``.
    if "://" not in host:
        host = f"{connection.schema or 'https'}://{_bracket_ipv6(host)}"
    scheme, _, rest = host.partition("://")
    server, slash, path = rest.partition("/")
    if connection.port and not _HAS_PORT.search(server):
        server = f"{server}:{connection.port}"
    return f"{scheme}://{server}{slash}{path}"


def _bracket_ipv6(host: str) -> str:
    try:
        return f"[{ipaddress.IPv6Address(host)}]"
    except ValueError:
        return host


def _read_task_url(extra: Mapping[str, Any], source: str, dialect: Dialect) -> str | None:
    pattern = read_text(extra, "task_url", source)
    has_agents = Capability.AGENT_CHOICE in dialect.capabilities
    placeholders = ("{task_id}", "{agent_id}") if has_agents else ("{task_id}",)
    if pattern and not is_usable_pattern(pattern, placeholders):
        allowed = (
            "an http:// or https:// URL without user and password, with no placeholder but "
            f"{' and '.join(placeholders)}, and with none before its path"
        )
        raise _wrong("task_url", source, allowed, pattern)
    return pattern


def _read_number(extra: Mapping[str, Any], name: str, source: str) -> float | None:
    number = _parse_number(extra.get(name))
    if number is not None and not SMALLEST_NUMBER <= number <= LARGEST_NUMBER:
        raise _wrong(name, source, f"a number from {SMALLEST_NUMBER} to {LARGEST_NUMBER}", extra[name])
    return number


def _read_count(extra: Mapping[str, Any], name: str, source: str) -> int | None:
    number = _parse_number(extra.get(name))
    if number is None:
        return None
    if not (1 <= number <= LARGEST_COUNT and number.is_integer()):
        raise _wrong(name, source, f"a whole number from 1 to {LARGEST_COUNT}", extra[name])
    return int(number)


def _parse_number(value: Any) -> float | None:
    """Return the number, None for an empty field, or NaN for anything else, which is in no range."""
    if value is None or value == "":
        return None
    try:
        return float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _read_boolean(extra: Mapping[str, Any], name: str, source: str) -> bool:
    value = _read_word(extra.get(name))
    if value is not None and not isinstance(value, bool):
        raise _wrong(name, source, "true or false", value)
    return bool(value)


def _read_verify(extra: Mapping[str, Any], source: str) -> bool | str:
    value = _read_word(extra.get("verify"))
    if value is not None and not isinstance(value, bool | str):
        raise _wrong("verify", source, "true, false or the path of a CA file", value)
    return True if value is None else value


def _read_word(value: Any) -> Any:
    """Return the meaning of a word such as "true", or else the value itself."""
    return _BOOLEANS.get(value.strip().lower(), value) if isinstance(value, str) else value
