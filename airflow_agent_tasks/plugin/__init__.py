"""
What this package adds to Airflow's own processes, by way of the entry point ``airflow.plugins``.

Every Airflow process imports this module, so it imports nothing beside Airflow's own plugin class.
"""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class AgentTasksPlugin(AirflowPlugin):
    """Makes the package known to ``airflow plugins``."""

    name = "agent_tasks"
