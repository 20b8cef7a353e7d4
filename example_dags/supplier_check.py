"""
An agent checks a supplier and leaves two decisions to someone in the Airflow UI.

```text
check_supplier (asks twice) → file_report
```

Trigger it, then answer its questions under **Browse → Required Actions**. While a question is open,
`check_supplier` is in the state `awaiting_input` and holds no worker. `file_report` reads the answers
from XCom `answers`.

**Connection:** `shinzo_default`.

**Without a key:** run `airflow agent-tasks sandbox`, paste the two `export` lines it prints into the
shell that starts your Airflow, and trigger this DAG. The first line of the message, `#sandbox …`, only
scripts the [sandbox](https://airflow-agent-tasks.readthedocs.io/en/stable/reference/sandbox/).
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import dag, get_current_context, task

from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

# Only for the sandbox, which has no agent that could think of a question. Leave it out with a real service.
SANDBOX_SCRIPT = "#sandbox " + json.dumps(
    {
        "steps": 6,
        "step_seconds": 0.2,
        "ask": [
            "There are two: Contoso Ltd. in London, and Contoso GmbH in Hamburg. Which one is meant?",
            "Its accounts are in the paid register only. May I spend 12 EUR there?",
        ],
        "result": {"supplier": "Contoso GmbH", "seat": "Hamburg", "risk": "low"},
    }
)


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    params={"supplier": "Contoso"},
    doc_md=__doc__,
    tags=["agent-tasks", "example", "shinzo", "questions"],
)
def supplier_check() -> None:
    check_supplier = ShinzoTaskOperator(
        task_id="check_supplier",
        agent_id="agt_research",
        message=(
            f"{SANDBOX_SCRIPT}\n"
            "Find out whether we can rely on our supplier {{ params.supplier }}. Ask me when the name is not "
            "clear, and before you spend money."
        ),
        deferrable=True,
        # The agent has 15 minutes. The time until someone answers is not counted.
        timeout=15 * 60,
        # Each question waits three days for an answer. Then the agent is stopped, and the task fails.
        input_timeout=timedelta(days=3),
        doc_md="In the state `awaiting_input`: answer the agent under **Required Actions**.",
        retries=1,
    )

    @task
    def file_report(agent_task: dict[str, Any]) -> list[str]:
        """Return the findings, and who decided what."""
        found = agent_task["result"]
        report = [f"{found['supplier']}, {found['seat']}: risk {found['risk']}"]
        # Pulled by key, because it is absent if the agent asked nothing.
        answers = get_current_context()["ti"].xcom_pull(task_ids="check_supplier", key="answers") or []
        for answer in answers:
            report.append(f"{answer['question']} {answer['answered_by']['name']}: {answer['reply']}")
        print("\n".join(report))
        return report

    file_report(check_supplier.output)


supplier_check()
