"""The DAG file of the fault table: one DAG per file in ``cases`` beside it, or per group of them."""

import json
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

OPERATORS: dict[str, tuple[Any, str]] = {
    "lightcone": (LightconeTaskOperator, "instruction"),
    "shinzo": (ShinzoTaskOperator, "message"),
}


def define_task(cases: list[dict[str, Any]]) -> None:
    """Define the task of a case, or the mapped task whose indices are these cases."""
    first = cases[0]
    operator, text = OPERATORS[first["service"]]
    common = {
        "task_id": first["task_id"],
        "retries": first["retries"],
        "retry_delay": timedelta(seconds=first["retry_delay"]),
    }
    own = [{"conn_id": case["conn_id"], text: case["text"], **build_arguments(case)} for case in cases]
    if first["map_index"] < 0:
        operator(**common, **own[0])
    elif first["listed_by"]:
        listed = list_indices.override(task_id=first["listed_by"])(own)
        operator.partial(**common).expand_kwargs(listed)
    else:
        operator.partial(**common).expand_kwargs(own)


def build_arguments(case: dict[str, Any]) -> dict[str, Any]:
    """Return the operator's arguments; JSON has only what the function ``reply`` returns."""
    arguments = dict(case["arguments"])
    if "reply" in arguments:
        reply = arguments["reply"]
        arguments["reply"] = lambda question: reply
    return arguments


@task
def list_indices(arguments: list[dict[str, Any]], *, ti: Any = None) -> list[dict[str, Any]]:
    """Return the arguments of each index; after a clear, only the first."""
    return arguments if ti.try_number == 1 else arguments[:1]


def sort_key(case: dict[str, Any]) -> tuple[str, str, int]:
    """Return a key that groups cases by DAG, and sorts those of a mapped task by index."""
    return case["dag_id"], case["task_id"], case["map_index"]


found = [json.loads(path.read_text()) for path in Path(__file__).with_name("cases").glob("*.json")]
for dag_id, of_dag in groupby(sorted(found, key=sort_key), key=lambda case: case["dag_id"]):
    cases = list(of_dag)
    limit = cases[0]["run_timeout"]
    with DAG(dag_id, schedule=None, dagrun_timeout=timedelta(seconds=limit) if limit else None):
        for _, of_task in groupby(cases, key=lambda case: case["task_id"]):
            define_task(list(of_task))
