"""
The prompt is in a file of its own, `prompts/press_review.md`, and the task includes it as a template.

The file may use `params`, XComs and further includes. Trigger the DAG with another `company` to see it
change: the task's **Rendered Templates** show the prompt that was sent. More: [Keep a prompt in a
file](https://airflow-agent-tasks.readthedocs.io/en/stable/how-to/prompts-in-files/).

**Connection:** `shinzo_default`.

**Without a key:** run `airflow agent-tasks sandbox`, paste the two `export` lines it prints into the
shell that starts your Airflow, and trigger this DAG. The
[sandbox](https://airflow-agent-tasks.readthedocs.io/en/stable/reference/sandbox/) finishes every task
that no `#sandbox` line scripts.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from airflow.sdk import dag

from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    params={"company": "Contoso"},
    # Where the names after "include" are looked up.
    template_searchpath=str(Path(__file__).parent),
    doc_md=__doc__,
    tags=["agent-tasks", "example", "shinzo", "prompts"],
)
def press_review() -> None:
    ShinzoTaskOperator(
        task_id="review",
        message='{% include "prompts/press_review.md" %}',
        deferrable=True,
        timeout=1800,
        retries=1,
    )


press_review()
