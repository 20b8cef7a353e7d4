"""How many requests a wait sends until it sees the end, and how late it sees it: on a simulated clock."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from waiter import percentile

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.lifecycle.wait_policy import TaskWait

RUNNING, ENDED = (
    AgentTask("lightcone", "tsk_1", status=status) for status in (TaskState.RUNNING, TaskState.COMPLETED)
)


@dataclass(frozen=True)
class Simulated:
    """
    What many waits for runs of one length came to.

    :param seconds: The length of the runs, to which up to half a minute is added by chance.
    :param requests: Sent for each run, on average.
    :param late: Seconds from the end of the run to the request that saw it: median, 99th percentile.
    :param late_beyond: The 99th percentile of what these seconds are more than 5 % of the run; 2 are allowed.
    """

    seconds: float
    requests: float
    late: Sequence[float]
    late_beyond: float


def simulate(seconds: float, poll_interval: float | None, *, runs: int = 2000, seed: int = 1) -> Simulated:
    """
    Wait for many runs.

    :param poll_interval: Fixed seconds between the requests; None for the growing wait.
    """
    chance = random.Random(seed)  # noqa: S311 - no secret
    requests = 0
    late: list[float] = []
    beyond: list[float] = []
    for _ in range(runs):
        end = seconds + 30.0 * chance.random()
        wait = TaskWait(started_at=0.0, poll_interval=poll_interval, draw=chance.random)
        now = wait.begin(now=0.0).seconds
        requests += 1
        while (decision := wait.on_state(ENDED if now >= end else RUNNING, now=now)).waits:
            now += decision.seconds
            requests += 1
        late.append(now - end)
        beyond.append(now - end - 0.05 * end)
    return Simulated(
        seconds,
        requests / runs,
        [percentile(late, 0.5), percentile(late, 0.99)],
        percentile(beyond, 0.99),
    )
