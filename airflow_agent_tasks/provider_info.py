"""The provider metadata that Airflow discovers. Does not import Airflow."""

from __future__ import annotations

from typing import Any

from airflow_agent_tasks.configuration.options import SECTION, build_metadata
from airflow_agent_tasks.connection_form import LIGHTCONE_FORM, SHINZO_FORM

INTEGRATION = "Agent Tasks"


def get_provider_info() -> dict[str, Any]:
    """Return the metadata for the entry point ``apache_airflow_provider``."""
    return {
        "package-name": "airflow-agent-tasks",
        "name": INTEGRATION,
        "description": "Agent tasks: long-running AI agent jobs on Lightcone (Tzafon) and Shinzo.",
        "integrations": [
            {
                "integration-name": INTEGRATION,
                "tags": ["ai", "service"],
            }
        ],
        "hooks": [_list_modules("hooks", "agent_task", "lightcone", "shinzo")],
        "operators": [_list_modules("operators", "agent_task", "lightcone", "shinzo")],
        "sensors": [_list_modules("sensors", "agent_task")],
        "triggers": [_list_modules("triggers", "agent_task")],
        "connection-types": [LIGHTCONE_FORM.to_metadata(), SHINZO_FORM.to_metadata()],
        "task-decorators": [
            {"name": "lightcone", "class-name": "airflow_agent_tasks.decorators.agent_task.lightcone_task"},
            {"name": "shinzo", "class-name": "airflow_agent_tasks.decorators.agent_task.shinzo_task"},
        ],
        "config": {SECTION: build_metadata()},
        "extra-links": [
            f"airflow_agent_tasks.operators.links.{name}" for name in ("AgentTaskLink", "QuestionLink")
        ],
        "plugins": [{"name": "agent_tasks", "plugin-class": "airflow_agent_tasks.plugin.AgentTasksPlugin"}],
        "cli": ["airflow_agent_tasks.cli.commands.get_agent_tasks_cli_commands"],
    }


def _list_modules(folder: str, *names: str) -> dict[str, Any]:
    return {
        "integration-name": INTEGRATION,
        "python-modules": [f"airflow_agent_tasks.{folder}.{name}" for name in names],
    }
