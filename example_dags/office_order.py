"""
An agent orders office supplies. A rule answers its routine questions, and someone in the Airflow UI
answers the rest.

```text
order (asks twice: the rule answers one question, someone the other) → note_expenses
```

The rule is the function `answer_routine`, the operator's `reply`. Questions that it leaves open wait
under **Browse → Required Actions**, without holding a worker. `note_expenses` reads from XCom `answers`
who decided what.

**Connection:** `lightcone_default`.

**Without a key:** run `airflow agent-tasks sandbox`, paste the two `export` lines it prints into the
shell that starts your Airflow, and trigger this DAG. The first line of the instruction, `#sandbox …`,
only scripts the [sandbox](https://airflow-agent-tasks.readthedocs.io/en/stable/reference/sandbox/).
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from airflow.sdk import dag, get_current_context, task

from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator

#: The highest price that needs no approval, in EUR.
LIMIT = 100
PRICE = re.compile(r"May I order [^0-9]+ for (\d+) EUR\?")

# Only for the sandbox, which has no agent that could think of a question. Leave it out with a real service.
SANDBOX_SCRIPT = "#sandbox " + json.dumps(
    {
        "steps": 6,
        "step_seconds": 0.2,
        "ask": ["May I order paper for 24 EUR?", "May I order a desk chair for 420 EUR?"],
    }
)


def answer_routine(question: str) -> str | None:
    """Return the reply, or None to ask someone."""
    # The whole question must match. A rule that finds "24 EUR" anywhere in it would also say yes to
    # "May I order paper for 24 EUR a sheet, 1,050 EUR in all?"
    asked = PRICE.fullmatch(question)
    return "Yes, order it." if asked and int(asked[1]) <= LIMIT else None


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    doc_md=__doc__,
    tags=["agent-tasks", "example", "lightcone", "questions"],
)
def office_order() -> None:
    order = LightconeTaskOperator(
        task_id="order",
        instruction=(
            f"{SANDBOX_SCRIPT}\n"
            "Order paper and a desk chair at the shop. Before each order ask exactly: "
            "May I order (what) for (whole number) EUR?"
        ),
        kind="browser",
        start_url="https://shop.example",
        max_steps=80,
        deferrable=True,
        # Called on the worker with each question first. It has no LLM and costs nothing.
        reply=answer_routine,
        doc_md="In the state `awaiting_input`: answer the agent under **Required Actions**.",
        retries=1,
    )

    @task
    def note_expenses(agent_task: dict[str, Any]) -> dict[str, str]:
        """Return who decided on each order, for the accounts; the rule appears under its function's name."""
        answers = get_current_context()["ti"].xcom_pull(task_ids="order", key="answers") or []
        decisions = {answer["question"]: answer["answered_by"]["name"] for answer in answers}
        print(f"{agent_task['task_id']} ended with exit code {agent_task['exit_code']}: {decisions}")
        return decisions

    note_expenses(order.output)


office_order()
