"""
Agents try the checkout of several shops. Some fail, and the report lists the results of all.

```text
check (one agent task per shop) → report (runs however they ended)
```

`report` has `trigger_rule="all_done"`. For each map index it reads the state of the Airflow task and its
XComs: `return_value` if the agent succeeded, `exit_code` and `error` if it failed. The run fails
only if every shop failed.

**Connection:** `lightcone_default`.

**Without a key:** run `airflow agent-tasks sandbox`, paste the two `export` lines it prints into the
shell that starts your Airflow, and trigger this DAG. The first line of each instruction, `#sandbox …`,
only scripts the [sandbox](https://airflow-agent-tasks.readthedocs.io/en/stable/reference/sandbox/).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator

SHOPS = ["https://books.example", "https://shoes.example", "https://tea.example"]

# The first line is for the sandbox only: the agent of one shop fails.
INSTRUCTION = """#sandbox {"step_seconds": 0.3, "exit_code": {{ 3 if "shoes" in task.start_url else 0 }}}
Put one item into the basket and go to the checkout, but do not pay.
End with exit code 3 if the basket stays empty, and with 4 if there is no checkout."""


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    doc_md=__doc__,
    tags=["agent-tasks", "example", "lightcone", "mapping", "exit-codes"],
)
def checkout_check() -> None:
    check = LightconeTaskOperator.partial(
        task_id="check",
        instruction=INSTRUCTION,
        kind="browser",
        max_steps=40,
        deferrable=True,
        timeout=10 * 60,
        retries=1,
        # The results that a second agent would find too.
        no_retry_on_exit_code=[3, 4],
        max_active_tis_per_dag=8,
        # Shown in the Airflow UI instead of the map index.
        map_index_template="{{ task.start_url }}",
    ).expand(start_url=SHOPS)

    @task(trigger_rule="all_done")
    def report() -> list[dict[str, Any]]:
        """Return one line per shop; runs when all agents have ended, successfully or not."""
        ti = get_current_context()["ti"]
        states = ti.get_task_states(dag_id=ti.dag_id, task_ids=["check"], run_ids=[ti.run_id])[ti.run_id]

        # Index by index: a list of all XComs under a key has no gaps for the tasks that pushed none.
        def pull(key: str, index: int) -> Any:
            return ti.xcom_pull(task_ids="check", key=key, map_indexes=index)

        lines = [
            {
                "shop": shop,
                "state": states[f"check_{index}"],
                "agent_task": pull("return_value", index),
                "exit_code": pull("exit_code", index),
                "error": pull("error", index),
            }
            for index, shop in enumerate(SHOPS)
        ]
        for line in lines:
            print(f"{line['shop']}: {line['state']}, exit code {line['exit_code']}")
        if not any(line["state"] == "success" for line in lines):
            raise AirflowFailException("No checkout works.")
        return lines

    check >> report()


checkout_check()
