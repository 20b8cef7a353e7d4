"""Counts on a simulated clock how many requests a wait sends, and how late it sees the end."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.lifecycle.wait_policy import TaskWait
from lab.benchmarks.percentile import percentile

RUNNING = AgentTask("lightcone", "tsk_1", status=TaskState.RUNNING)
#: The runs end at random times within this many seconds.
SPREAD = 30.0
#: Waits that are simulated, and runs that end during each of them.
WAITS, RUNS_PER_WAIT = 100, 20


@dataclass(frozen=True)
class Simulated:
    """
    The results of many waits for runs of one length.

    :param requests: Requests per run, on average.
    :param late: Seconds from the end of the run to the request that saw it: median, 99th percentile.
    :param late_beyond: The 99th percentile of those seconds minus 5 % of the run; at most 2 are allowed.
    """

    requests: float
    late: Sequence[float]
    late_beyond: float


def simulate(seconds: float, poll_interval: float | None, *, seed: int = 1) -> Simulated:
    """
    Simulate ``WAITS`` waits for ``RUNS_PER_WAIT`` runs each.

    The times of the polls do not depend on when the run ends, so one series of polls serves many runs.

    :param seconds: The length of the shortest run; the longest is ``SPREAD`` longer.
    :param poll_interval: Fixed seconds between the requests; None for the growing wait.
    :param seed: The seed of the random numbers.
    """
    chance = random.Random(seed)  # noqa: S311 - no secret
    requests = 0
    late: list[float] = []
    beyond: list[float] = []
    for _ in range(WAITS):
        polls = list_polls(seconds + SPREAD, poll_interval, chance.random)
        for _ in range(RUNS_PER_WAIT):
            end = seconds + SPREAD * chance.random()
            first_after_end = bisect_left(polls, end)
            requests += first_after_end + 1
            late.append(polls[first_after_end] - end)
            beyond.append(late[-1] - 0.05 * end)
    return Simulated(
        requests / len(late),
        [percentile(late, 0.5), percentile(late, 0.99)],
        percentile(beyond, 0.99),
    )


def list_polls(seconds: float, poll_interval: float | None, draw: Callable[[], float]) -> list[float]:
    """Return when one wait polls a task that is still running, up to the first poll after ``seconds``."""
    wait = TaskWait(working_since=0.0, poll_interval=poll_interval, draw=draw)
    polls = [wait.begin(now=0.0).seconds]
    while polls[-1] < seconds:
        polls.append(polls[-1] + wait.on_state(RUNNING, now=polls[-1]).seconds)
    return polls
