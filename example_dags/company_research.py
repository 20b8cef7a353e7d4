"""
An agent researches each company in a CSV file, eight at a time, and the answers go into SQLite.

```text
read_companies → research (one agent task per company) → load_answers
```

`research` is a mapped task. Its instances wait in the triggerer, so none of them holds a worker while
its agent works. The rows go to the file that `COMPANY_RESEARCH_DB` names, by default
`company_research.db`.

**Connection:** `shinzo_default`.

**Without a key:** run `airflow agent-tasks sandbox`, paste the two `export` lines it prints into the
shell that starts your Airflow, and trigger this DAG. The first line of each message, `#sandbox …`, only
scripts the [sandbox](https://airflow-agent-tasks.readthedocs.io/en/stable/reference/sandbox/).
"""

from __future__ import annotations

import csv
import json
import os
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.sdk import dag, task

from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

COMPANIES = Path(__file__).parent / "companies.csv"
DATABASE = os.environ.get("COMPANY_RESEARCH_DB", "company_research.db")

INSTRUCTION = """Open {website} and find out what {company} does.
Answer with JSON: {{"company": …, "industry": …, "employees": …}}"""


def script_sandbox(company: str) -> str:
    # Only for the sandbox, which has no agent that could think of an answer: leave it out elsewhere.
    answer = {"company": company, "industry": "software", "employees": 10 * len(company)}
    return "#sandbox " + json.dumps({"steps": 4, "step_seconds": 0.5, "result": answer}) + "\n"


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    doc_md=__doc__,
    tags=["agent-tasks", "example", "shinzo", "mapping", "database"],
)
def company_research() -> None:
    @task
    def read_companies() -> list[str]:
        """Return one message for each row of the CSV file."""
        with COMPANIES.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return [script_sandbox(row["company"]) + INSTRUCTION.format(**row) for row in rows]

    # One mapped task instance, and one agent task, for each message. None of them holds a worker while its
    # agent works (deferrable), and no more than 8 agents work at a time, because each costs money.
    research = ShinzoTaskOperator.partial(
        task_id="research",
        agent_id="agt_research",
        priority=7,
        metadata={"dag": "{{ dag.dag_id }}", "run": "{{ run_id }}"},
        deferrable=True,
        timeout=15 * 60,
        max_active_tis_per_dag=8,
    ).expand(message=read_companies())

    @task
    def load_answers(finished: list[dict[str, Any]]) -> int:
        """Write one row for each company; running it again replaces the rows instead of adding more."""
        rows = [{**agent_task["result"], "task_id": agent_task["task_id"]} for agent_task in finished]
        with sqlite3.connect(DATABASE) as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS answers "
                "(company TEXT PRIMARY KEY, industry TEXT, employees INTEGER, task_id TEXT)"
            )
            database.executemany(
                "INSERT OR REPLACE INTO answers VALUES (:company, :industry, :employees, :task_id)", rows
            )
        return len(rows)

    # Each item is an operator's return value: the agent task as JSON, with the answer in its "result".
    load_answers(research.output)


company_research()
