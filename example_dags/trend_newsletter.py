"""
Runs whenever the agent of the DAG `trend_report` has written a report, and reads it.

```text
DAG trend_report → asset bike_trends → write_newsletter
```

The schedule is the asset. Each asset event names the task that emitted it, and so gives access to its XCom:
`return_value` is the agent task, with the report in its `result`. One run may cover several events
if reports come in quickly.

**To try it:** unpause both DAGs and trigger `trend_report`. This DAG needs no connection.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import Asset, dag, task
from airflow.sdk.exceptions import AirflowSkipException

BIKE_TRENDS = Asset("bike_trends")


@dag(
    schedule=[BIKE_TRENDS],
    start_date=datetime(2026, 1, 1),
    catchup=False,
    doc_md=__doc__,
    tags=["agent-tasks", "example", "assets"],
)
def trend_newsletter() -> None:
    # Airflow passes context variables by argument name.
    @task
    def write_newsletter(triggering_asset_events: Any = None) -> list[str]:
        """Return one line for each report."""
        lines = []
        for event in triggering_asset_events.get(BIKE_TRENDS, []):
            agent_task = event.source_task_instance.xcom_pull(key="return_value")
            lines.append(f"{event.extra['topic']}: {agent_task['result']['summary']}")
        if not lines:
            raise AirflowSkipException("Triggered by hand: there is no new report.")
        return lines

    write_newsletter()


trend_newsletter()
