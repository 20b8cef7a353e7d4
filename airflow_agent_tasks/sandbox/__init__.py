"""
A real HTTP server that imitates both services on one port, with scripted behaviour and faults.

Write and test DAGs with it, without a key and without an agent: ``python -m airflow_agent_tasks.sandbox``,
the pytest fixture ``agent_task_sandbox``, or :class:`airflow_agent_tasks.sandbox.server.Sandbox`.

Nothing here imports Airflow or the rest of this package, except ``errors`` and ``protocol.task``. This module
and ``pytest_plugin`` import nothing heavy: every pytest run on a machine with this package loads them.
"""

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8321
DEFAULT_API_KEY = "sk_sandbox"
