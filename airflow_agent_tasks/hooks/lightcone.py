"""The hook of Lightcone by Tzafon."""

from __future__ import annotations

import os
from typing import Any

from airflow_agent_tasks.client.settings import ClientSettings
from airflow_agent_tasks.connection_form import LIGHTCONE_FORM
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.services.lightcone import LightconeDialect


class LightconeHook(AgentTaskHook):
    """
    Call Lightcone.

    If the default connection does not exist, the hook uses ``TZAFON_API_KEY`` and ``LIGHTCONE_BASE_URL``, as
    the service's own SDK does. If any other connection does not exist, it raises an error: a misspelt name
    must not use another account.

    :param lightcone_conn_id: The Airflow connection, of type ``lightcone``.
    """

    dialect = LightconeDialect()
    form = LIGHTCONE_FORM
    conn_name_attr = "lightcone_conn_id"
    default_conn_name = "lightcone_default"
    conn_type = form.conn_type
    hook_name = form.hook_name

    def __init__(self, lightcone_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(lightcone_conn_id, **kwargs)

    @classmethod
    def read_environment(cls, conn_id: str) -> ClientSettings | None:
        """Return the settings from ``TZAFON_API_KEY`` and ``LIGHTCONE_BASE_URL``, or None."""
        api_key = os.environ.get("TZAFON_API_KEY", "").strip()
        if conn_id != cls.default_conn_name or not api_key:
            return None
        return ClientSettings(
            base_url=os.environ.get("LIGHTCONE_BASE_URL") or cls.dialect.default_base_url,
            api_key=api_key,
            source="the environment (TZAFON_API_KEY, LIGHTCONE_BASE_URL)",
        )
