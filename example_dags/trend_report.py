"""
An agent writes a report, and the report is an asset: the DAG `trend_newsletter` runs whenever there is a
new one.

```text
research → asset bike_trends → DAG trend_newsletter
```

The task names the asset in `outlets`. When it succeeds, Airflow emits an asset event, and
`describe_event` puts the topic and the agent task's id into its `extra`. The report itself stays in the
task's XCom. The other DAG reads both.

**Connection:** `shinzo_default`.

**Without a key:** run `airflow agent-tasks sandbox`, paste the two `export` lines it prints into the
shell that starts your Airflow, and trigger this DAG. The first line of the message, `#sandbox …`, only
scripts the [sandbox](https://airflow-agent-tasks.readthedocs.io/en/stable/reference/sandbox/).
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from airflow.sdk import Asset, Context, dag

from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

BIKE_TRENDS = Asset("bike_trends")

# Only for the sandbox, which researches nothing. Leave it out with a real service.
SANDBOX_SCRIPT = "#sandbox " + json.dumps(
    {"steps": 3, "step_seconds": 0.3, "result": {"summary": "Cargo bikes outsell folding bikes."}}
)


def describe_event(context: Context, agent_task: dict[str, Any]) -> None:
    """Put the report's topic and its agent task into the asset event."""
    context["outlet_events"][BIKE_TRENDS].extra = {
        "topic": context["params"]["topic"],
        "agent_task_id": agent_task["task_id"],
    }


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    params={"topic": "city bikes"},
    doc_md=__doc__,
    tags=["agent-tasks", "example", "shinzo", "assets"],
)
def trend_report() -> None:
    ShinzoTaskOperator(
        task_id="research",
        agent_id="agt_research",
        message=(
            f"{SANDBOX_SCRIPT}\n"
            'Find out what is new in {{ params.topic }}. Answer with JSON: {"summary": "…"}'
        ),
        deferrable=True,
        timeout=15 * 60,
        retries=1,
        outlets=[BIKE_TRENDS],
        post_execute=describe_event,
    )


trend_report()
