"""The progress that a trigger leaves in XCom; the supervisor that would write it is stood in for."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import BaseXCom

from airflow_agent_tasks.agent_task import AgentTask, Progress, TaskState
from airflow_agent_tasks.polling import progress_xcom
from airflow_agent_tasks.polling.progress_xcom import ProgressNotes

TASK_INSTANCE = SimpleNamespace(dag_id="dag", run_id="run", task_id="agent", map_index=2)


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any, dict[str, Any]]]:
    notes: list[tuple[str, Any, dict[str, Any]]] = []

    async def aset(key: str, value: Any, **where: Any) -> None:
        notes.append((key, value, where))

    monkeypatch.setattr(BaseXCom, "aset", aset)
    return notes


def seen(steps: int | None) -> AgentTask:
    moved = None if steps is None else Progress("Reading", steps, 9)
    return AgentTask("shinzo", "tsk_1", TaskState.RUNNING, progress=moved)


def take(notes: ProgressNotes, *tasks: AgentTask | None) -> None:
    async def take_all() -> None:
        for task in tasks:
            await notes.take(task)

    asyncio.run(take_all())


def test_each_change_is_left_once_for_the_task_instance(left: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(progress_xcom, "SECONDS_BETWEEN_NOTES", 0)
    take(ProgressNotes(TASK_INSTANCE, logging.getLogger()), seen(None), seen(1), seen(1), None, seen(2))
    assert [(key, value["steps_completed"]) for key, value, _ in left] == [("progress", 1), ("progress", 2)]
    assert left[0][2] == {"dag_id": "dag", "run_id": "run", "task_id": "agent", "map_index": 2}


def test_all_tasks_of_a_triggerer_share_one_note_a_second(left: Any) -> None:
    async def take_many() -> None:
        for _ in range(100):
            await ProgressNotes(TASK_INSTANCE, logging.getLogger()).take(seen(1))

    asyncio.run(take_many())
    assert len(left) == 1


def test_a_note_that_cannot_be_left_ends_no_wait(monkeypatch: Any, caplog: Any) -> None:
    async def fail(key: str, value: Any, **where: Any) -> None:
        raise RuntimeError("no API server")

    monkeypatch.setattr(BaseXCom, "aset", fail)
    take(ProgressNotes(TASK_INSTANCE, logging.getLogger()), seen(1))
    assert "The progress could not be left in XCom: RuntimeError('no API server')" in caplog.text
