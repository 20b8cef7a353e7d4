"""
What this package adds to Airflow's own processes, by way of the entry point ``airflow.plugins``.

Every Airflow process imports this module, so it imports little, and nothing slow.
"""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from airflow_agent_tasks.plugin import listener


class AgentTasksPlugin(AirflowPlugin):
    """Stops the agent tasks of tasks that are ended where no worker or trigger hears of it."""

    name = "agent_tasks"
    listeners = [listener]  # noqa: RUF012 - as Airflow declares it
