"""
The plugin, loaded through the entry point ``airflow.plugins``.

Every Airflow process imports this module, so it imports little, and nothing slow.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_agent_tasks.plugin import listener
from airflow_agent_tasks.plugin.answer_delay import AnswerHold


async def serve(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request to the API server; what it takes is imported by the first one."""
    from airflow_agent_tasks.plugin.form_endpoint import app

    await app(scope, receive, send)


class AgentTasksPlugin(AirflowPlugin):
    """Looks after forms and ended tasks where neither worker nor trigger can: in the API server."""

    name = "agent_tasks"
    listeners = [listener]  # noqa: RUF012 - as Airflow declares it
    fastapi_apps = [{"name": "agent_tasks", "app": serve, "url_prefix": "/agent-tasks"}]  # noqa: RUF012
    fastapi_root_middlewares = [  # noqa: RUF012
        {"name": "agent_tasks", "middleware": AnswerHold, "args": [], "kwargs": {}}
    ]
