"""
A local mock of both services: a real HTTP server on one port, with scripted behaviour and faults.

Use it to write and test DAGs without a key or an agent: ``python -m airflow_agent_tasks.sandbox``, the pytest
fixture ``agent_task_sandbox``, or :class:`airflow_agent_tasks.sandbox.server.Sandbox`.

Nothing here imports Airflow or the rest of this package, except ``errors`` and ``agent_task``. This module
and ``pytest_plugin`` import nothing heavy: every pytest run on a machine with this package loads them.
"""

from __future__ import annotations

import json

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8321
DEFAULT_API_KEY = "sk_sandbox"
DEFAULT_AGENT_ID = "agt_sandbox"


def build_connection_variables(url: str, api_key: str = DEFAULT_API_KEY) -> dict[str, str]:
    """
    Return the environment variables that point Airflow's default connections to a sandbox.

    :param url: The sandbox's base URL.
    :param api_key: The key that it accepts; default ``sk_sandbox``.
    """
    common = {"host": url, "password": api_key}
    lightcone = {"conn_type": "lightcone", **common}
    shinzo = {"conn_type": "shinzo", **common, "extra": {"agent_id": DEFAULT_AGENT_ID}}
    return {
        "AIRFLOW_CONN_LIGHTCONE_DEFAULT": json.dumps(lightcone),
        "AIRFLOW_CONN_SHINZO_DEFAULT": json.dumps(shinzo),
    }
