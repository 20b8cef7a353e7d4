"""
A local mock of both services: a real HTTP server on one port, with scripted behaviour and faults.

Use it to write and test DAGs without a key or an agent: ``python -m airflow_agent_tasks.sandbox``, the pytest
fixture ``agent_task_sandbox``, or ``airflow_agent_tasks.sandbox.server.Sandbox``.

Nothing here imports Airflow or the rest of this package, except ``errors`` and ``agent_task``. This module
and ``pytest_plugin`` import nothing heavy: every pytest run on a machine with this package loads them.
"""

from __future__ import annotations

import json

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8321
DEFAULT_API_KEY = "sk_sandbox"
DEFAULT_AGENT_ID = "agt_sandbox"
SERVICES = ("lightcone", "shinzo")


def build_connection_variables(url: str, api_key: str = DEFAULT_API_KEY) -> dict[str, str]:
    """
    Return the environment variables that point Airflow's default connections to a sandbox.

    :param url: The sandbox's base URL.
    :param api_key: The key that it accepts; default ``sk_sandbox``.
    """
    return {
        name_variable(f"{service}_default"): build_connection(service, url, api_key) for service in SERVICES
    }


def build_connection(service: str, url: str, api_key: str) -> str:
    """Return a connection of a service's type to a sandbox, as Airflow reads it from the environment."""
    extra = {"agent_id": DEFAULT_AGENT_ID} if service == "shinzo" else {}
    extra["task_url"] = f"{url}/_sandbox/tasks/{{task_id}}"
    return json.dumps({"conn_type": service, "host": url, "password": api_key, "extra": extra})


def name_variable(conn_id: str) -> str:
    """Return the environment variable in which Airflow looks for a connection."""
    return f"AIRFLOW_CONN_{conn_id.upper()}"
