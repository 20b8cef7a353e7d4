"""What a worker pushes to XCom while it waits; Airflow's supervisor is mocked."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

from airflow_agent_tasks.agent_task import AgentTask, Progress, TaskState
from airflow_agent_tasks.lifecycle.commands import PushTask
from airflow_agent_tasks.worker.xcoms import XComs


def test_progress_is_pushed_every_ten_seconds_and_with_each_change_of_state() -> None:
    now, pushed = 0.0, []

    def push(key: str, value: Any) -> None:
        pushed.append((now, key, value["steps_completed"] if key == "progress" else value))

    ti = SimpleNamespace(xcom_push=push)
    xcoms = XComs(ti, logging.getLogger(), is_wanted=True, clock=lambda: now)
    for second in range(25):
        now = float(second)
        state = TaskState.RUNNING if second < 22 else TaskState.PAUSED
        xcoms.perform(PushTask(AgentTask("shinzo", "tsk_1", state, progress=Progress("Reading", second, 99))))
    assert [entry for entry in pushed if entry[1] == "progress"] == [
        (0.0, "progress", 0),
        (10.0, "progress", 10),
        (20.0, "progress", 20),
        (22.0, "progress", 22),
    ]
    assert [entry for entry in pushed if entry[1] == "status"] == [
        (0.0, "status", "running"),
        (22.0, "status", "paused"),
    ]
