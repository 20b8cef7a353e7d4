"""Deferred agent tasks through a real scheduler, worker, API server and triggerer."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from lab.cluster.cluster_programs import ClusterError
from lab.cluster.processes import wait_until

SHORT_TASKS = """
from airflow.sdk import DAG
from airflow_agent_tasks.operators.lightcone import LightconeTaskOperator
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

with DAG("short_tasks", schedule=None):
    script = '#sandbox {"steps": 1, "step_seconds": 0.5, "result": {"answer": 42}}'
    quick = {"deferrable": True, "poll_interval": 0.5}
    ShinzoTaskOperator.partial(task_id="shinzo", **quick).expand(message=[script] * 3)
    LightconeTaskOperator.partial(task_id="lightcone", **quick).expand(instruction=[script] * 2)
"""
SLOW_TASK = """
from airflow.sdk import DAG
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

with DAG("slow_task", schedule=None):
    ShinzoTaskOperator(
        task_id="agent",
        message='#sandbox {"steps": 1000, "step_seconds": 0.5}',
        deferrable=True,
        poll_interval=1,
    )
"""
DAGS = {"short_tasks.py": SHORT_TASKS, "slow_task.py": SLOW_TASK}


def test_agent_tasks_shorter_than_the_workers_heartbeat_do_not_fail(cluster: Any, sandbox: Any) -> None:
    run_id = cluster.api.trigger("short_tasks")
    assert cluster.wait_for_run("short_tasks", run_id, timeout=120) == "success"
    tasks = cluster.api.list_tasks("short_tasks", run_id)
    assert [(task.task_id, task.state, task.tries) for task in tasks] == [
        *[("lightcone", "success", 1)] * 2,
        *[("shinzo", "success", 1)] * 3,
    ]
    results = [cluster.api.read_xcoms(task)["return_value"]["result"] for task in tasks]
    assert results == [None, None, *[{"answer": 42}] * 3]
    started = [task for task in sandbox.tasks() if '"steps": 1,' in str(task["request"])]
    assert len(started) == 5


def test_a_deferred_task_shows_its_agents_progress(cluster: Any) -> None:
    run_id = cluster.api.trigger("slow_task")
    shown: list[int] = []

    def has_moved() -> bool:
        (task,) = cluster.api.list_tasks("slow_task", run_id)
        progress = cluster.api.read_xcoms(task, ["progress"]).get("progress")
        if task.state == "deferred" and progress:
            shown.append(progress["steps_completed"])
        return len(set(shown)) >= 2

    assert wait_until(has_moved, timeout=120)
    assert shown == sorted(shown)


def test_an_api_server_that_crashes_is_started_again_and_the_request_answered(cluster: Any) -> None:
    crashed = cluster.programs["api-server"]
    crashed.send_signal(signal.SIGSEGV)
    with pytest.warns(UserWarning, match=r"api-server crashed(.|\n)*Fatal Python error: Segmentation fault"):
        assert set(cluster.api.list_dag_ids()) == {"short_tasks", "slow_task"}
    assert crashed.exit_status == -signal.SIGSEGV
    cluster.check_programs()


def test_a_component_that_ends_by_itself_is_an_error(cluster: Any) -> None:
    cluster.programs["dag-processor"].send_signal(signal.SIGKILL)
    assert cluster.programs["dag-processor"].wait(timeout=10) == -signal.SIGKILL
    with pytest.raises(ClusterError, match="dag-processor ended with exit status -9"):
        cluster.check_programs()
    cluster.stop_program("dag-processor")
    cluster.start_component("dag-processor")
