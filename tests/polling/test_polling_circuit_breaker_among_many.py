"""A thousand agent tasks share a circuit breaker, and some or all requests fail; decisions are real."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.errors import AgentTaskError, AgentTaskUnavailableError
from airflow_agent_tasks.lifecycle.wait_policy import TaskWait, Verdict
from airflow_agent_tasks.polling.circuit_breaker import CircuitBreaker

TASKS = 1000
SECONDS = 1800.0
LATENCY = 0.05
RUNNING = AgentTask("lightcone", "tsk_1", status=TaskState.RUNNING)
COMPLETED = AgentTask("lightcone", "tsk_1", status=TaskState.COMPLETED)

#: Returns the failure of a task's request at a moment, or None.
Failing = Callable[[int, float], AgentTaskError | None]


@dataclass
class Seen:
    """
    The outcome.

    :param late: For each task whose end was seen, by how many seconds late.
    :param gave_up: The tasks that gave up because of an outage.
    :param requests: When requests were sent.
    """

    late: dict[int, float] = field(default_factory=dict)
    gave_up: set[int] = field(default_factory=set)
    requests: list[float] = field(default_factory=list)


def wait_for_all(fails: Failing, *, is_shared: bool = True, answers_after: float = LATENCY) -> Seen:
    """
    Poll tasks that started ten minutes ago, and end within the first half, on one connection.

    A failure is always quick; ``answers_after`` is how many seconds a response takes.
    """
    draw = random.Random(1).random  # noqa: S311
    breaker, seen = CircuitBreaker(draw=draw), Seen()
    waits = [TaskWait(working_since=-600.0, draw=draw) for _ in range(TASKS)]
    ends = [draw() * SECONDS / 2 for _ in range(TASKS)]
    moments: list[tuple[float, int, float | None]] = [(draw() * 30, task, None) for task in range(TASKS)]
    heapq.heapify(moments)
    while moments and moments[0][0] < SECONDS:
        now, task, sent_at = heapq.heappop(moments)
        wait = waits[task]
        if sent_at is None and is_shared and not breaker.admit(now=now):
            decision = wait.on_error(breaker.build_rejection(now=now), now=now)
        elif sent_at is None:
            seen.requests.append(now)
            heapq.heappush(moments, (now + (LATENCY if fails(task, now) else answers_after), task, now))
            continue
        elif error := fails(task, sent_at):
            breaker.on_error(error, sent_at=sent_at, now=now)
            decision = wait.on_error(error, now=now)
        else:
            breaker.on_response(sent_at=sent_at)
            decision = wait.on_state(COMPLETED if now >= ends[task] else RUNNING, now=now)
        if decision.waits:
            heapq.heappush(moments, (now + decision.seconds, task, None))
        elif decision.verdict is Verdict.OUTAGE:
            seen.gave_up.add(task)
        else:
            seen.late[task] = now - ends[task]
    return seen


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_tasks_that_always_fail_do_not_delay_those_that_succeed(share: float) -> None:
    failing = set(range(int(share * TASKS)))

    def fails(task: int, now: float) -> AgentTaskError | None:
        return AgentTaskUnavailableError("broken", status=500) if task in failing else None

    shared, alone = wait_for_all(fails), wait_for_all(fails, is_shared=False)
    assert shared.gave_up == alone.gave_up == failing
    assert shared.late.keys() == alone.late.keys() == set(range(TASKS)) - failing
    assert _middle(shared) < 1.2 * _middle(alone)
    assert max(shared.late.values()) < 1.5 * max(alone.late.values())


def test_no_task_gives_up_that_a_mostly_broken_service_still_answers() -> None:
    def fails(task: int, now: float) -> AgentTaskError | None:
        return AgentTaskUnavailableError("broken", status=500) if task >= TASKS // 20 else None

    assert not wait_for_all(fails).gave_up & set(range(TASKS // 20))


def test_an_outage_is_waited_out_with_few_requests_by_all_tasks() -> None:
    down, up = 300.0, 600.0

    def fails(task: int, now: float) -> AgentTaskError | None:
        return AgentTaskUnavailableError("down", status=503) if down <= now < up else None

    seen = wait_for_all(fails)
    assert not seen.gave_up
    assert len(seen.late) == TASKS
    during = [moment for moment in seen.requests if down <= moment < up]
    # One each second, and those of the first moments.
    assert len(during) < up - down + TASKS / 5
    # No thundering herd: each of a thousand rejected tasks comes back at a moment of its own.
    afterwards = [moment for moment in seen.requests if up <= moment < up + 2]
    assert len(afterwards) < TASKS / 5


def test_slow_responses_end_an_outage_although_the_next_failure_is_quicker() -> None:
    down, up, share = 300.0, 330.0, 0.6

    def fails(task: int, now: float) -> AgentTaskError | None:
        is_down = down <= now < up or (now >= up and random.Random(f"{task} {now}").random() < share)  # noqa: S311
        return AgentTaskUnavailableError("down", status=503) if is_down else None

    assert not wait_for_all(fails, answers_after=10.0).gave_up


def _middle(seen: Seen) -> float:
    return sorted(seen.late.values())[len(seen.late) // 2]
