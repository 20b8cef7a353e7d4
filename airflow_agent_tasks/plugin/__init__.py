"""
The plugin, loaded through the entry point ``airflow.plugins``.

Every Airflow process imports this module, so it imports little and nothing slow.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_agent_tasks.plugin import listener
from airflow_agent_tasks.plugin.startup import Startup


async def serve(scope: Any, receive: Any, send: Any) -> None:
    """Pass a request on to the endpoints, which are imported on the first request."""
    from airflow_agent_tasks.plugin.endpoints import app

    await app(scope, receive, send)


class AgentTasksPlugin(AirflowPlugin):
    """Handles forms and orphaned agent tasks in the API server, because workers and triggers cannot."""

    name = "agent_tasks"
    listeners = [listener]  # noqa: RUF012 - as Airflow declares it
    fastapi_apps = [{"name": "agent_tasks", "app": serve, "url_prefix": "/agent-tasks"}]  # noqa: RUF012
    fastapi_root_middlewares = [  # noqa: RUF012
        {"name": "agent_tasks_startup", "middleware": Startup, "args": [], "kwargs": {}},
    ]
