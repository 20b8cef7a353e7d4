"""The DAG file of the fault table: one DAG with one task for every file in ``cases`` beside it."""

import json
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG

from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

for path in sorted(Path(__file__).with_name("cases").glob("*.json")):
    case = json.loads(path.read_text())
    limit = case["run_timeout"]
    common = {
        "task_id": "agent",
        "conn_id": case["conn_id"],
        "retries": case["retries"],
        "retry_delay": timedelta(seconds=1),
        **case["arguments"],
    }
    with DAG(case["name"], schedule=None, dagrun_timeout=timedelta(seconds=limit) if limit else None):
        if case["service"] == "lightcone":
            LightconeTaskOperator(instruction=case["text"], **common)
        else:
            ShinzoTaskOperator(message=case["text"], **common)
