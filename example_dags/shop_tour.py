"""
An agent tries a shop while you watch: each of its steps is a line in the task's log, at once.

```text
tour (the agent: log lines, screenshots, usage) → report
```

- `stream=True` follows the agent's event stream on a worker. If the stream breaks, the task waits without
  it, in the triggerer (`deferrable`).
- `artifacts_path` keeps the screenshots. XCom holds only their paths, and `report` opens them.
- `budget` stops the agent when its service reports more than that. It does nothing on a service that reports
  no usage, so the service's own limit, `max_steps`, is set too.

The screenshots go to the folder that `SHOP_TOUR_FOLDER` names, by default `shop_tour`; it can also be the
URL of an object storage.

**Connection:** `lightcone_default`.

**Without a key:** run `airflow agent-tasks sandbox`, paste the two `export` lines it prints into the
shell that starts your Airflow, and trigger this DAG. Open the log of `tour` while it runs, and the link
**Agent task** under **Details**. The first line of the instruction, `#sandbox …`, only scripts the
[sandbox](https://airflow-agent-tasks.readthedocs.io/en/stable/reference/sandbox/).
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.sdk import ObjectStoragePath, dag, get_current_context, task

from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator

FOLDER = os.environ.get("SHOP_TOUR_FOLDER", str(Path("shop_tour").absolute()))

# Only for the sandbox, which opens no shop. Leave it out with a real service.
SANDBOX_SCRIPT = "#sandbox " + json.dumps(
    {
        "steps": 5,
        "step_seconds": 1.2,
        "titles": ["Opening the shop", "Searching", "Comparing", "Filling the basket", "Looking it over"],
        "tool_calls": [
            {"name": "open", "arguments": {"url": "https://shop.example"}},
            {"name": "type", "arguments": {"text": "oat milk"}},
            {"name": "click", "arguments": {"text": "Add to basket"}},
        ],
        "deltas": "The shop is open. I search for oat milk. It costs 1.89 EUR. It is in the basket now.",
        "screenshots": 4,
        "usage": {"tokens": 3200, "cost": 0.12, "currency": "EUR"},
        "result": {"cents": 189, "in_basket": True},
    }
)


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    doc_md=__doc__,
    tags=["agent-tasks", "example", "lightcone", "streaming", "artifacts"],
)
def shop_tour() -> None:
    tour = LightconeTaskOperator(
        task_id="tour",
        instruction=(
            f"{SANDBOX_SCRIPT}\n"
            "Put one carton of oat milk into the basket, but do not pay. "
            "Take a screenshot of each page. End with exit code 3 if there is none."
        ),
        start_url="https://shop.example",
        max_steps=40,
        stream=True,
        stream_deltas=True,  # the agent's words too, sentence by sentence
        screenshot_mode="base64",  # in the events; with "url", XCom holds their addresses
        artifacts_path=FOLDER,
        budget={"steps": 40, "cost": 1},
        deferrable=True,
        timeout=10 * 60,
        retries=1,
        no_retry_on_exit_code=3,
    )

    @task
    def report(agent_task: dict[str, Any]) -> dict[str, Any]:
        """Return what the agent found, the sizes of its screenshots, and what it used."""
        ti = get_current_context()["ti"]
        # Both are absent if the service sent none.
        artifacts = ti.xcom_pull(task_ids="tour", key="artifacts") or []
        usage = ti.xcom_pull(task_ids="tour", key="usage") or {}
        # An entry without a path could not be stored, or is only an address.
        screenshots = [one for one in artifacts if "path" in one and one["type"].startswith("image/")]
        return {
            "found": agent_task["result"],
            "screenshots": {
                one["name"]: len(ObjectStoragePath(one["path"]).read_bytes()) for one in screenshots
            },
            "cost": usage.get("cost"),
        }

    report(tour.output)


shop_tour()
