"""
TaskFlow: a function that returns an agent's instruction becomes an agent task.

```text
list_changes → write_notes (Shinzo) → publish (Lightcone) → report
```

`@task.shinzo` and `@task.lightcone` run the function on a worker and start the agent with what it
returns: text, or a dict of start fields. The next function receives the agent task, with the agent's
answer under `result`.

**Connections:** `lightcone_default` and `shinzo_default`.

**Without a key:** run `airflow agent-tasks sandbox`, paste the two `export` lines it prints into the
shell that starts your Airflow, and trigger this DAG. The first line of each instruction, `#sandbox …`,
only scripts the [sandbox](https://airflow-agent-tasks.readthedocs.io/en/stable/reference/sandbox/).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import dag, task


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    doc_md=__doc__,
    tags=["agent-tasks", "example", "lightcone", "shinzo", "taskflow"],
)
def release_notes() -> None:
    @task
    def list_changes() -> list[str]:
        """Return the changes; a real DAG would get them from version control."""
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
        """Return the outcome."""
        return f"{published['task_id']} ended with exit code {published['exit_code']}"

    report(publish(write_notes(list_changes())))


release_notes()
