"""Tasks that their services call back, through a real scheduler, worker, API server and triggerer."""

from __future__ import annotations

import re
from typing import Any

CALLED_BACK = """
from airflow.sdk import DAG
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

with DAG("called_back", schedule=None):
    ShinzoTaskOperator(
        task_id="agent",
        message='#sandbox {"steps": 1, "step_seconds": 12, "result": {"answer": 42}}',
        callback_mode="webhook",
        deferrable=True,
    )
"""
DAGS = {"called_back.py": CALLED_BACK}


def test_a_callback_wakes_the_task_long_before_its_next_poll(cluster: Any, sandbox: Any) -> None:
    run_id = cluster.api.trigger("called_back")
    assert cluster.wait_for_run("called_back", run_id, timeout=120) == "success"
    (task,) = cluster.api.list_tasks("called_back", run_id)
    assert cluster.api.read_xcoms(task)["return_value"]["result"] == {"answer": 42}
    (agent_task,) = [one for one in sandbox.tasks() if '"step_seconds": 12' in str(one["request"])]
    path = re.compile(f"/agent/.*/task/{agent_task['task_id']}")
    polls = [one for one in sandbox.requests() if one["method"] == "GET" and path.fullmatch(one["path"])]
    # A third one would be more than the safety net: on_kill asks too if the task has ended by then.
    assert len(polls) in (1, 2)
