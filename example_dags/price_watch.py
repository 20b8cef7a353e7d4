"""
An agent reads prices from a shop, and they go into a database.

```text
collect → check_answer → store (one INSERT per price)
          create_table ↗
```

An agent's words are untrusted: `check_answer` checks types and bounds, and `store` passes the values as
query parameters, never as part of the SQL. Running it again on the same day replaces that day's prices.

**Connections:** `shinzo_default`, and `price_watch_db` for the database, in the shell that starts your
Airflow:

```bash
pip install apache-airflow-providers-sqlite
export AIRFLOW_CONN_PRICE_WATCH_DB='{"conn_type": "sqlite", "host": "/tmp/price_watch.db"}'
```

For PostgreSQL, install its provider and write `%(product)s` instead of `:product`.

**Without a key:** run `airflow agent-tasks sandbox`, paste the two `export` lines it prints into the
shell that starts your Airflow, and trigger this DAG. The first line of the message, `#sandbox …`, only
scripts the [sandbox](https://airflow-agent-tasks.readthedocs.io/en/stable/reference/sandbox/).
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.sdk import chain, dag, get_current_context, task

from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

DATABASE = "price_watch_db"
MAX_PRODUCTS = 100

CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS prices
    (day TEXT, product TEXT, cents INTEGER, agent_task_id TEXT, PRIMARY KEY (day, product))
"""
INSERT_PRICE = """
INSERT INTO prices (day, product, cents, agent_task_id) VALUES (:day, :product, :cents, :agent_task_id)
ON CONFLICT (day, product) DO UPDATE SET cents = excluded.cents, agent_task_id = excluded.agent_task_id
"""

# Only for the sandbox, which reads no prices. Leave it out with a real service.
SANDBOX_SCRIPT = "#sandbox " + json.dumps(
    {
        "steps": 3,
        "step_seconds": 0.3,
        "result": {"prices": [{"product": "Oat milk", "cents": 189}, {"product": "Bread", "cents": 340}]},
    }
)


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    doc_md=__doc__,
    tags=["agent-tasks", "example", "shinzo", "database"],
)
def price_watch() -> None:
    collect = ShinzoTaskOperator(
        task_id="collect",
        agent_id="agt_research",
        message=(
            f"{SANDBOX_SCRIPT}\n"
            "Read the prices on https://shop.example/offers. "
            'Answer with JSON: {"prices": [{"product": "…", "cents": 189}]}'
        ),
        deferrable=True,
        timeout=15 * 60,
        retries=1,
    )

    create_table = SQLExecuteQueryOperator(task_id="create_table", conn_id=DATABASE, sql=CREATE_TABLE)

    @task
    def check_answer(agent_task: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the parameters of each INSERT; fail unless the answer is a list of prices."""
        # The day of the run: a retry after midnight writes the same rows.
        day = get_current_context()["dag_run"].run_after.date().isoformat()
        rows = []
        for price in agent_task["result"]["prices"][:MAX_PRODUCTS]:
            product, cents = price["product"], price["cents"]
            if type(product) is not str or type(cents) is not int or not 0 < cents < 1_000_000:
                raise ValueError(f"not a price: {str(price)[:200]!r}")
            rows.append(
                {
                    "day": day,
                    "product": product[:200],
                    "cents": cents,
                    "agent_task_id": agent_task["task_id"],
                }
            )
        return rows

    # SQLExecuteQueryOperator comes with Airflow, and works with every database that has a provider.
    store = SQLExecuteQueryOperator.partial(task_id="store", conn_id=DATABASE, sql=INSERT_PRICE).expand(
        parameters=check_answer(collect.output)
    )

    chain(create_table, store)


price_watch()
