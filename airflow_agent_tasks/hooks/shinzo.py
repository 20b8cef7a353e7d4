"""The hook of Shinzo."""

from __future__ import annotations

from typing import Any

from airflow_agent_tasks.connection_form import SHINZO_FORM
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.hooks.connection_settings import read_id
from airflow_agent_tasks.services.shinzo import ShinzoDialect


class ShinzoHook(AgentTaskHook):
    """
    Call Shinzo.

    :param shinzo_conn_id: The Airflow connection, of type ``shinzo``. Its extra field ``agent_id`` is the
        default agent.
    """

    dialect = ShinzoDialect()
    form = SHINZO_FORM
    conn_name_attr = "shinzo_conn_id"
    default_conn_name = "shinzo_default"
    conn_type = form.conn_type
    hook_name = form.hook_name

    def __init__(self, shinzo_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(shinzo_conn_id, **kwargs)

    def resolve_agent_id(self, agent_id: str | None) -> str | None:
        """Return the given agent, else the connection's ``agent_id``."""
        return agent_id or read_id(self.extra, "agent_id", f"connection {self.conn_id!r}")
