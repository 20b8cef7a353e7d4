"""The progress that a trigger pushes to XCom; Airflow's supervisor is mocked."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import BaseXCom

from airflow_agent_tasks.agent_task import AgentTask, Progress, TaskState
from airflow_agent_tasks.polling.progress_xcom import PUSH_INTERVAL, ProgressXCom
from tests.airflow.polling.poller_service import Clock

TASK_INSTANCE = SimpleNamespace(dag_id="dag", run_id="run", task_id="agent", map_index=2)


@pytest.fixture
def aset(mocker: Any) -> Any:
    return mocker.patch.object(BaseXCom, "aset")


def seen(steps: int | None) -> AgentTask:
    moved = None if steps is None else Progress("Reading", steps, 9)
    return AgentTask("shinzo", "tsk_1", TaskState.RUNNING, progress=moved)


def test_each_change_is_pushed_once_for_the_task_instance(aset: Any) -> None:
    async def push_all() -> None:
        clock = Clock()
        progress = ProgressXCom(TASK_INSTANCE, logging.getLogger(), clock=clock)
        for task in (seen(None), seen(1), seen(1), None, seen(2)):
            await progress.push(task)
            clock.advance(PUSH_INTERVAL)

    asyncio.run(push_all())
    pushed = [(call.args[0], call.args[1]["steps_completed"]) for call in aset.call_args_list]
    assert pushed == [("progress", 1), ("progress", 2)]
    where = {"dag_id": "dag", "run_id": "run", "task_id": "agent", "map_index": 2}
    assert aset.call_args.kwargs == where


def test_all_tasks_of_a_triggerer_share_one_push_per_second(aset: Any) -> None:
    async def push_many() -> None:
        for _ in range(100):
            await ProgressXCom(TASK_INSTANCE, logging.getLogger()).push(seen(1))

    asyncio.run(push_many())
    assert aset.call_count == 1


def test_a_failed_push_does_not_end_the_wait(aset: Any, caplog: Any) -> None:
    aset.side_effect = RuntimeError("no API server")
    asyncio.run(ProgressXCom(TASK_INSTANCE, logging.getLogger()).push(seen(1)))
    assert "Could not push the progress to XCom: RuntimeError('no API server')" in caplog.text
