"""A task that someone ends just before it defers: Airflow refuses the deferral, and only logs that."""

from __future__ import annotations

from typing import Any

from lab.cluster.processes import wait_until

DAG = """
from airflow.sdk import DAG
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

with DAG("agents", schedule=None):
    ShinzoTaskOperator(
        task_id="agent", message='#sandbox {"steps": 1000, "step_seconds": 1}', deferrable=True, retries=2
    )
"""
DAGS = {"agents.py": DAG}
#: Otherwise, the worker learns from its heartbeat that the task has ended, and is killed before it defers.
SETTINGS = {"AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "60"}
#: Seconds that the service takes to start the agent: enough to mark the task meanwhile.
START = 5.0


def test_the_agent_of_a_refused_deferral_is_stopped(cluster: Any, sandbox: Any) -> None:
    sandbox.faults([{"method": "POST", "path": "/agent/request/", "delay_seconds": START}])
    run_id = cluster.api.trigger("agents")
    assert wait_until(lambda: len(sandbox.requests()) == 1, timeout=120), "no start was sent"
    (task,) = cluster.api.list_tasks("agents", run_id)
    cluster.api.mark(task, "failed")
    assert sandbox.tasks() == []
    assert wait_until(lambda: [one["status"] for one in sandbox.tasks()] == ["cancelled"], timeout=60)

    def read_log() -> str:
        return "\n".join(cluster.api.read_log(task))

    assert wait_until(lambda: "Someone marked the task failed." in read_log(), timeout=60)
    (task,) = cluster.api.list_tasks("agents", run_id)
    assert (task.state, task.tries) == ("failed", 1)
