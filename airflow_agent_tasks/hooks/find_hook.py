"""Finds the hook for a connection, for code that works with any service."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException

from airflow_agent_tasks.errors import AgentTaskConfigurationError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.hooks.connection_settings import connection_not_found
from airflow_agent_tasks.hooks.lightcone import LightconeHook
from airflow_agent_tasks.services.start_fields import text
from airflow_agent_tasks.text import shorten

if TYPE_CHECKING:
    from airflow.sdk import Connection


def find_hook(conn_id: str, hook_class: type[AgentTaskHook] = AgentTaskHook) -> AgentTaskHook:
    """
    Return the hook for a connection; the connection's type names the service.

    :param conn_id: The Airflow connection.
    :param hook_class: The hook of the expected service; default: any service.
    :raises AgentTaskArgumentError: if ``conn_id`` is not a name, as when a template's value is missing.
    :raises AgentTaskConnectionNotFoundError: if there is no such connection, or it cannot be read.
    :raises AgentTaskConfigurationError: if it has another type.
    """
    text("conn_id").validate(conn_id)
    connection = None
    with suppress(AirflowNotFoundException):
        connection = BaseHook.get_connection(conn_id)
    if connection is None:
        return _find_without_connection(conn_id, hook_class)
    hook = _build_hook(connection, hook_class)
    hook.connection = connection
    return hook


async def afind_hook(conn_id: str) -> AgentTaskHook:
    """Return the hook for a connection on an event loop, settings included, with a single lookup."""
    text("conn_id").validate(conn_id)
    connection = None
    with suppress(AirflowNotFoundException):
        connection = await BaseHook.aget_connection(conn_id)
    if connection is None:
        hook = _find_without_connection(conn_id, AgentTaskHook)
    else:
        hook = _build_hook(connection, AgentTaskHook)
    await hook.aload(connection)
    return hook


def _build_hook(connection: Connection, wanted: type[AgentTaskHook]) -> AgentTaskHook:
    try:
        hook = connection.get_hook()  # type: ignore[no-untyped-call]
    except AirflowException:
        hook = None
    if not isinstance(hook, wanted):
        expected = (
            wanted.conn_type if wanted is not AgentTaskHook else "an agent service: lightcone or shinzo"
        )
        conn_type = shorten(repr(connection.conn_type), 60)
        raise AgentTaskConfigurationError(
            f"The connection {connection.conn_id!r} has the type {conn_type}, but the task needs {expected}. "
            "Change its type under Admin → Connections, or set conn_id to another connection."
        )
    return hook


def _find_without_connection(conn_id: str, wanted: type[AgentTaskHook]) -> AgentTaskHook:
    # For any service, try Lightcone: no other service has environment variables.
    hook_class: Any = LightconeHook if wanted is AgentTaskHook else wanted
    if hook_class.read_environment(conn_id) is None:
        raise connection_not_found(conn_id)
    hook: AgentTaskHook = hook_class(conn_id)
    return hook
