"""
A prompt that is kept in a file of its own, with Jinja's ``include``: see ``prompts/press_review.md``.

Needs the connection ``shinzo_default``. Try it without a key: ``airflow agent-tasks sandbox``.
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
    tags=["agent-tasks", "example"],
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
