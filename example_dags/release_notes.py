"""
The TaskFlow form: a function that returns what the agent is to do becomes an agent task.

    list_changes → write_notes (Shinzo) → publish (Lightcone) → report

Needs ``lightcone_default`` and ``shinzo_default``. Try it without keys: ``airflow agent-tasks sandbox``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import dag, task


@dag(schedule=None, start_date=datetime(2026, 1, 1), catchup=False, tags=["agent-tasks", "example"])
def release_notes() -> None:
    @task
    def list_changes() -> list[str]:
        """Return what has changed; a real DAG would ask its version control."""
        return ["Faster start", "Exports keep umlauts"]

    # The function runs on a worker and returns the message as text. All other arguments of
    # ShinzoTaskOperator go into the decorator.
    @task.shinzo(agent_id="agt_writer", deferrable=True)
    def write_notes(changes: list[str]) -> str:
        script = (
            '#sandbox {"steps": 2, "step_seconds": 0.3, "result": {"text": "Faster, and no lost umlauts."}}'
        )
        return f"{script}\nWrite one friendly sentence about: {', '.join(changes)}"

    # It may also return a dict of start fields.
    @task.lightcone(kind="browser", deferrable=True)
    def publish(notes: dict[str, Any]) -> dict[str, Any]:
        script = '#sandbox {"steps": 2, "step_seconds": 0.3}'
        return {
            "instruction": f"{script}\nPublish this on our blog: {notes['result']['text']}",
            "start_url": "https://blog.example/new",
            "metadata": {"source": notes["task_id"]},
        }

    @task
    def report(published: dict[str, Any]) -> str:
        """Say how it went."""
        return f"{published['task_id']} ended with exit code {published['exit_code']}"

    report(publish(write_notes(list_changes())))


release_notes()
