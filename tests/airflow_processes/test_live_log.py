"""The log of a deferred task, as the Airflow UI reads it: it follows the agent while it works."""

from __future__ import annotations

import re
import time
from typing import Any

from lab.cluster.processes import wait_until

POLL_INTERVAL = 1.0
#: More than twice the time between two lines: no step has to wait because of the line before it.
STEP_SECONDS = 21.0
STEPS = re.compile(r"Running, step (\d+) of 1000: .* \(.* since the start\)$")

LIVE = f"""
from airflow.sdk import DAG
from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

with DAG("live", schedule=None):
    ShinzoTaskOperator.partial(task_id="agent", deferrable=True, poll_interval={POLL_INTERVAL}).expand(
        message=['#sandbox {{"steps": 1000, "step_seconds": {STEP_SECONDS}}}'] * 2
    )
"""
DAGS = {"live.py": LIVE}


def list_logged_steps(cluster: Any, task: Any) -> list[int]:
    """Return the steps in the log of a task as the UI gets it."""
    lines = cluster.api.read_log(task)
    return [int(found[1]) for line in lines if (found := STEPS.search(line))]


def test_each_step_is_in_the_log_of_a_deferred_task_within_seconds(cluster: Any, sandbox: Any) -> None:
    run_id = cluster.api.trigger("live")

    def list_deferred() -> list[Any]:
        return [task for task in cluster.api.list_tasks("live", run_id) if task.state == "deferred"]

    assert wait_until(lambda: len(list_deferred()) == 2, timeout=120)
    # The line of the first change may have to wait, because the trigger begins with a line of its own.
    tasks = list_deferred()
    assert wait_until(
        lambda: all(len(set(list_logged_steps(cluster, task))) >= 2 for task in tasks), timeout=90
    )

    step = min(task["steps_completed"] for task in sandbox.tasks()) + 1
    assert wait_until(
        lambda: all(task["steps_completed"] >= step for task in sandbox.tasks()),
        timeout=2 * STEP_SECONDS,
        interval=0.1,
    )
    changed_at = time.monotonic()
    for task in tasks:
        assert wait_until(lambda task=task: step in list_logged_steps(cluster, task), timeout=20)
    assert time.monotonic() - changed_at <= POLL_INTERVAL + 3.0
    assert len(list_deferred()) == 2

    for task in list_deferred():
        logged = list_logged_steps(cluster, task)
        # The worker may have logged the step with which the trigger begins.
        assert set(logged) == set(range(max(logged) + 1))
        assert len(logged) <= len(set(logged)) + 1
