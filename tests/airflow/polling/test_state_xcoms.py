"""What a trigger pushes to XCom of an agent task; Airflow's supervisor is mocked."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import BaseXCom

from airflow_agent_tasks.agent_task import AgentTask, Progress, TaskState
from airflow_agent_tasks.lifecycle.pace import WRITE_INTERVAL
from airflow_agent_tasks.polling import state_xcoms
from airflow_agent_tasks.polling.loop_rate import LoopRate
from airflow_agent_tasks.polling.state_xcoms import StateXComs
from tests.airflow.polling.poller_service import Clock

TASK_INSTANCE = SimpleNamespace(dag_id="dag", run_id="run", task_id="agent", map_index=2)


@pytest.fixture
def clock(mocker: Any) -> Clock:
    """The clock of all pushes."""
    clock = Clock()
    mocker.patch.object(state_xcoms, "PUSHES", LoopRate(1.0, clock=clock))
    return clock


@pytest.fixture
def aset(mocker: Any) -> Any:
    return mocker.patch.object(BaseXCom, "aset")


def seen(steps: int | None, state: TaskState = TaskState.RUNNING) -> AgentTask:
    moved = None if steps is None else Progress("Reading", steps, 9)
    return AgentTask("shinzo", "tsk_1", state, progress=moved)


def list_pushed(aset: Any) -> list[tuple[str, Any]]:
    pushed = [call.args[:2] for call in aset.call_args_list]
    return [(key, value["steps_completed"] if key == "progress" else value) for key, value in pushed]


def test_each_change_is_pushed_once_for_the_task_instance(aset: Any, clock: Clock) -> None:
    async def push_all() -> None:
        xcoms = StateXComs(TASK_INSTANCE, logging.getLogger(), noted_status="queued", clock=clock)
        tasks = [seen(None, TaskState.QUEUED), seen(1), seen(1), None, seen(2), seen(2, TaskState.PAUSED)]
        for task in tasks:
            await xcoms.push(task)
            clock.advance(WRITE_INTERVAL)

    asyncio.run(push_all())
    expected = [("status", "running"), ("progress", 1), ("progress", 2), ("status", "paused")]
    assert list_pushed(aset) == expected
    where = {"dag_id": "dag", "run_id": "run", "task_id": "agent", "map_index": 2}
    assert aset.call_args.kwargs == where


def test_a_trigger_of_an_earlier_version_pushes_the_status_too(aset: Any) -> None:
    asyncio.run(StateXComs(TASK_INSTANCE, logging.getLogger()).push(seen(None)))
    assert list_pushed(aset) == [("status", "running")]


def test_all_tasks_of_a_triggerer_share_its_pushes(aset: Any, clock: Clock) -> None:
    tasks, seconds = 50, 200

    async def push_many() -> None:
        all_xcoms = [
            StateXComs(TASK_INSTANCE, logging.getLogger(), noted_status="running", clock=clock)
            for _ in range(tasks)
        ]
        for step in range(seconds):
            for xcoms in all_xcoms:
                await xcoms.push(seen(step))
            clock.advance(1.0)

    asyncio.run(push_many())
    assert aset.call_count == pytest.approx(seconds, rel=0.05)


def test_status_and_progress_are_pushed_together(aset: Any, clock: Clock) -> None:
    async def push_twice() -> None:
        xcoms = StateXComs(TASK_INSTANCE, logging.getLogger(), noted_status="running", clock=clock)
        await xcoms.push(seen(1))
        clock.advance(WRITE_INTERVAL / 2)
        await xcoms.push(seen(2, TaskState.PAUSED))
        clock.advance(WRITE_INTERVAL / 2)
        await xcoms.push(seen(3, TaskState.PAUSED))

    asyncio.run(push_twice())
    assert list_pushed(aset) == [("progress", 1), ("status", "paused"), ("progress", 3)]


def test_the_end_is_pushed_at_once(aset: Any) -> None:
    async def push_twice() -> None:
        xcoms = StateXComs(TASK_INSTANCE, logging.getLogger(), noted_status="running")
        await xcoms.push(seen(1))
        await xcoms.push_end(seen(1, TaskState.CANCELLED))

    asyncio.run(push_twice())
    assert list_pushed(aset) == [("progress", 1), ("status", "cancelled")]


def test_a_slow_supervisor_delays_the_next_check_only_once(aset: Any, clock: Clock, mocker: Any) -> None:
    mocker.patch.object(state_xcoms, "PUSH_TIMEOUT", 0.01)

    async def never_stored(*args: Any, **kwargs: Any) -> None:
        await asyncio.sleep(60)

    async def push_twice() -> None:
        xcoms = StateXComs(TASK_INSTANCE, logging.getLogger(), clock=clock)
        aset.side_effect = never_stored
        await xcoms.push(seen(1))
        assert list_pushed(aset) == [("status", "running")]
        aset.side_effect = None
        clock.advance(WRITE_INTERVAL)
        await xcoms.push(seen(1))

    asyncio.run(push_twice())
    assert list_pushed(aset) == [("status", "running"), ("progress", 1)]


def test_a_failed_push_does_not_end_the_wait(aset: Any, caplog: Any) -> None:
    aset.side_effect = RuntimeError("no API server")
    asyncio.run(StateXComs(TASK_INSTANCE, logging.getLogger(), noted_status="running").push(seen(1)))
    assert "Could not push the progress to XCom: RuntimeError('no API server')" in caplog.text
