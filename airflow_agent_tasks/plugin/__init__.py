"""
The plugin, loaded through the entry point ``airflow.plugins``.

Every Airflow process imports this module, so it imports little and nothing slow.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_agent_tasks.plugin import listener
from airflow_agent_tasks.plugin.startup import Startup

#: Where the page "Agent tasks" is shown: in the menu, and as a tab; and what follows its route there.
_DESTINATIONS = {
    "nav": "",
    "dag": "-of-dag",
    "dag_run": "-of-run",
    "task": "-of-task",
    "task_instance": "-of-try",
}


async def serve(scope: Any, receive: Any, send: Any) -> None:
    """Pass a request on to the endpoints, which are imported on the first request."""
    from airflow_agent_tasks.plugin.endpoints import app

    await app(scope, receive, send)


class AgentTasksPlugin(AirflowPlugin):
    """Handles forms and orphaned agent tasks in the API server, because workers and triggers cannot."""

    name = "agent_tasks"
    listeners = [listener]  # noqa: RUF012 - as Airflow declares it
    fastapi_apps = [{"name": "agent_tasks", "app": serve, "url_prefix": "/agent-tasks"}]  # noqa: RUF012
    react_apps = [  # noqa: RUF012
        {
            "name": "Agent tasks",
            "bundle_url": "agent-tasks/static/agent-tasks.js",
            "destination": destination,
            # Airflow drops views whose routes are not unique.
            "url_route": f"agent-tasks{suffix}",
            "category": "browse",
        }
        for destination, suffix in _DESTINATIONS.items()
    ]
    fastapi_root_middlewares = [  # noqa: RUF012
        {"name": "agent_tasks_startup", "middleware": Startup, "args": [], "kwargs": {}},
    ]
