"""Tries connections with the same request as the **Test** button in the connection form."""

from __future__ import annotations

import os
from collections.abc import Iterator

from airflow.sdk import BaseHook

from airflow_agent_tasks.airflow_compat.deployment import list_connection_ids, read_connections_as_a_server
from airflow_agent_tasks.cli.finding import Finding, split_message
from airflow_agent_tasks.errors import AgentTaskConnectionNotFoundError, AgentTaskError
from airflow_agent_tasks.hooks.find_hook import find_hook
from airflow_agent_tasks.hooks.lightcone import LightconeHook
from airflow_agent_tasks.provider_info import get_provider_info

ENVIRONMENT_PREFIX = "AIRFLOW_CONN_"
TYPES = [declared["connection-type"] for declared in get_provider_info()["connection-types"]]


def check_connections(conn_ids: list[str]) -> Iterator[Finding]:
    """
    Yield one finding per connection: whether the service accepts a request.

    :param conn_ids: The connections; empty for all of this package's types in the database and environment.
    """
    read_connections_as_a_server()
    if conn_ids:
        yield from map(_check_connection, dict.fromkeys(conn_ids))
        return
    # The environment first: these must be tried even if the database does not respond.
    in_environment = list(dict.fromkeys(_list_in_environment()))
    yield from map(_check_connection, in_environment)
    in_database = _list_in_database()
    others = [conn_id for conn_id in in_database or () if conn_id not in in_environment]
    yield from map(_check_connection, others)
    if in_database is None or not (in_environment or others):
        unread = "the database cannot be read from here; " if in_database is None else ""
        count = len(in_environment) + len(others)
        details = f"{unread}{count} connections of the types {' and '.join(TYPES)} were found"
        remedy = "Connections in a secrets backend cannot be listed; give their ids after --connections."
        yield Finding("connections", "warning", details, remedy)


def _check_connection(conn_id: str) -> Finding:
    name = f"connection {conn_id}"
    try:
        works, message = find_hook(conn_id).test_connection()
    except AgentTaskConnectionNotFoundError as error:
        if _list_in_database() is None:
            # A worker needs no access to the database: the API server sends it the connection.
            details = (
                "neither in the environment nor in a secrets backend; the database cannot be read from here"
            )
            return Finding(name, "warning", details, "Run this command where the scheduler runs.")
        works, message = False, str(error)
    except AgentTaskError as error:
        works, message = False, str(error)
    if works:
        return Finding(name, "ok", message)
    details, hint = split_message(message)
    return Finding(name, "failed", details, f"{hint} {_describe_place(conn_id)}".strip())


def _describe_place(conn_id: str) -> str:
    if (variable := f"{ENVIRONMENT_PREFIX}{conn_id.upper()}") in os.environ:
        return f"The connection is set by {variable}."
    is_in_database = conn_id in (_list_in_database() or ())
    return "The connection is listed under Admin → Connections." if is_in_database else ""


def _list_in_database() -> list[str] | None:
    try:
        return list_connection_ids(TYPES)
    except Exception:  # a worker needs no access to the database, nor a driver for it
        return None


def _list_in_environment() -> list[str]:
    names = sorted(name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX))
    conn_ids = [name.removeprefix(ENVIRONMENT_PREFIX).lower() for name in names]
    ours = [conn_id for conn_id in conn_ids if _read_type(conn_id) in TYPES]
    return [*ours, LightconeHook.default_conn_name] if _has_variables_of_lightcone() else ours


def _has_variables_of_lightcone() -> bool:
    try:
        return LightconeHook.read_environment(LightconeHook.default_conn_name) is not None
    except AgentTaskError:  # they are set, but unusable
        return True


def _read_type(conn_id: str) -> str | None:
    try:
        return BaseHook.get_connection(conn_id).conn_type
    except Exception:  # another package's, in a format that cannot be read
        return None
