"""The provider metadata that Airflow discovers. Does not import Airflow."""

from __future__ import annotations

from typing import Any

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
        "config": {"agent_tasks": _describe_settings()},
        "extra-links": [
            f"airflow_agent_tasks.operators.links.{name}" for name in ("AgentTaskLink", "QuestionLink")
        ],
        "plugins": [{"name": "agent_tasks", "plugin-class": "airflow_agent_tasks.plugin.AgentTasksPlugin"}],
        "cli": ["airflow_agent_tasks.cli.commands.get_agent_tasks_cli_commands"],
    }


def _describe_settings() -> dict[str, Any]:
    return {
        "description": "Settings of the Agent Tasks provider; operators have arguments of the same names.",
        "options": {
            "artifacts_path": {
                "description": (
                    "Where to keep the screenshots, files and large results of agents: a folder, or the URL "
                    "of an object storage. Without it, a task with a result above max_xcom_bytes fails."
                ),
                "type": "string",
                "version_added": "0.2.0",
                "example": "s3://aws_default@bucket/agents",
                "default": "",
            },
            "callback_base_url": {
                "description": (
                    "The URL of the API server as services reach it, for tasks with "
                    "callback_mode='webhook'. Default: [api] base_url."
                ),
                "type": "string",
                "version_added": "0.2.0",
                "example": "https://airflow.example.com",
                "default": "",
            },
            "callback_secret": {
                "description": (
                    "The secret that signs the URLs of callbacks; the same on the API servers and on all "
                    "machines that run tasks. To rotate it, put a new one before the old one, separated by a "
                    "comma. Default: [core] fernet_key."
                ),
                "type": "string",
                "sensitive": True,
                "version_added": "0.2.0",
                "example": None,
                "default": "",
            },
            "max_xcom_bytes": {
                "description": "Bytes of JSON above which a result goes to artifacts_path instead of XCom.",
                "type": "integer",
                "version_added": "0.2.0",
                "example": None,
                "default": "65536",
            },
        },
    }


def _list_modules(folder: str, *names: str) -> dict[str, Any]:
    return {
        "integration-name": INTEGRATION,
        "python-modules": [f"airflow_agent_tasks.{folder}.{name}" for name in names],
    }
