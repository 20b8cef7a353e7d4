"""What a triggerer's status checks write to the tasks' logs, and how the tasks share it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

import pytest

from airflow_agent_tasks.agent_task import AgentTask, Progress, StartedTask, TaskState
from airflow_agent_tasks.errors import AgentTaskUnavailableError
from airflow_agent_tasks.lifecycle.wait_policy import TaskWait
from airflow_agent_tasks.polling import status_check
from airflow_agent_tasks.polling.loop_rate import LoopRate
from airflow_agent_tasks.polling.shared_poller import count_waiting_tasks, use_poller
from airflow_agent_tasks.polling.status_check import LINE_TICK, StatusChecker
from tests.airflow.polling.poller_service import Clock

ENDED = TaskState.COMPLETED
OFFLINE = AgentTaskUnavailableError("No connection.")


class ScriptedPoller:
    """A poller that returns one result after the other."""

    def __init__(self, *found: AgentTask | AgentTaskUnavailableError) -> None:
        self._found = iter(found)

    async def get_task(self, *_: Any, **__: Any) -> AgentTask:
        found = next(self._found)
        if isinstance(found, AgentTaskUnavailableError):
            raise found
        return found


class LineHandler(logging.Handler):
    """Keeps the lines, and when they came by the event loop's clock."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[float, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((asyncio.get_running_loop().time(), record.getMessage()))


def at_step(number: int, state: TaskState = TaskState.RUNNING) -> AgentTask:
    return AgentTask("shinzo", "tsk_1", state, progress=Progress("Reading", number, 9))


def build_checker(handler: LineHandler) -> StatusChecker:
    log = logging.Logger("test")
    log.addHandler(handler)
    now = time.time()
    return StatusChecker(
        StartedTask("tsk_1", "agt_1", now),
        TaskWait(working_since=now),
        log,
        submitted_at=now - 80,
        in_triggerer=True,
    )


async def check_all(checker: StatusChecker, results: Sequence[AgentTask | AgentTaskUnavailableError]) -> None:
    poller: Any = ScriptedPoller(*results)
    for _ in results:
        await checker.acheck(poller)


def test_the_first_step_and_the_end_are_logged_and_nothing_sooner_than_the_pace() -> None:
    handler = LineHandler()
    found = [at_step(1), at_step(2), OFFLINE, at_step(3), at_step(9, TaskState.COMPLETED)]
    asyncio.run(check_all(build_checker(handler), found))
    assert [line for _, line in handler.lines] == [
        "Running, step 1 of 9: Reading (1 min 20 s since the start)",
        "Seen: shinzo agent task tsk_1 (status completed)",
    ]


def test_the_lines_of_all_tasks_come_together(mocker: Any) -> None:
    mocker.patch.object(status_check, "LINES", LoopRate(1000.0))
    handler = LineHandler()

    async def check_one(number: int) -> None:
        await asyncio.sleep(number / 100)
        await check_all(build_checker(handler), [at_step(1)])

    async def check_many() -> None:
        await asyncio.gather(*(check_one(number) for number in range(20)))

    asyncio.run(check_many())
    seconds = [at for at, _ in handler.lines]
    assert len(seconds) == 20
    # In 0.2 seconds at most one tick ends.
    assert len({round(at / LINE_TICK) for at in seconds}) <= 2


def test_tasks_that_all_change_at_once_log_a_second_worth_of_lines_and_the_others_later(mocker: Any) -> None:
    clock, handler = Clock(), LineHandler()
    mocker.patch.object(status_check, "LINES", LoopRate(20.0, clock=clock))

    async def check_many() -> list[int]:
        checkers = [build_checker(handler) for _ in range(100)]
        counts = []
        for _ in range(3):
            await asyncio.gather(*(check_all(checker, [at_step(1)]) for checker in checkers))
            counts.append(len(handler.lines))
            clock.advance(2.0)
        await asyncio.gather(*(check_all(checker, [at_step(9, ENDED)]) for checker in checkers))
        return [*counts, len(handler.lines)]

    # The end needs no turn.
    assert asyncio.run(check_many()) == [pytest.approx(n, abs=3) for n in (20, 40, 60, 160)]


def test_the_tasks_of_all_connections_are_counted() -> None:
    async def count() -> list[int]:
        counts = [count_waiting_tasks()]
        async with use_poller("c1"), use_poller("c1"), use_poller("c2"):
            counts.append(count_waiting_tasks())
        return [*counts, count_waiting_tasks()]

    assert asyncio.run(count()) == [0, 3, 0]
