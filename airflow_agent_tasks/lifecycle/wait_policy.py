"""
The wait policy: how long to wait for an agent task, and when to stop.

Worker, trigger and sensor each have one ``TaskWait``, report the result of each status check to it, and
follow its ``Decision``. It is pure: the caller passes the time and does the sleeping.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import NamedTuple

from airflow_agent_tasks.agent_task import REACHABLE_STATES, TERMINAL_STATES, AgentTask, TaskState
from airflow_agent_tasks.errors import AgentTaskCircuitOpenError, AgentTaskError, AgentTaskUnavailableError
from airflow_agent_tasks.services.usage import list_passed

#: Seconds between two checks, if the deployment does not say otherwise: 2 at first, plus 5 % of the time
#: already waited, but at most 30.
SHORTEST_WAIT = 2.0
LONGEST_WAIT = 30.0
GROWTH = 0.05
#: Waits are shortened by up to this fraction, so that tasks that start together do not stay in step.
JITTER = 0.1
#: Seconds for which a service may fail to answer before the wait gives up.
MAX_OUTAGE = 600.0

#: The states in which an operator stops waiting: a final state, or a question.
ENDED_OR_ASKING = TERMINAL_STATES | {TaskState.AWAITING_INPUT}

#: The ends that a budget does not change. A cancelled agent task may have been stopped at its budget, by the
#: trigger or an earlier execution.
_BY_ITSELF = (TaskState.COMPLETED, TaskState.FAILED)


class Verdict(str, Enum):
    """What the caller does next."""

    WAIT = "wait"
    REACHED = "reached"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    OUTAGE = "outage"
    ERROR = "error"
    BUDGET = "budget"


class Decision(NamedTuple):
    """
    The decision after one status check.

    :param verdict: What to do next.
    :param seconds: How long to wait before the next check, with ``WAIT``.
    :param task: The agent task, if the check returned it.
    :param error: The failure that ended the wait, with ``OUTAGE`` and ``ERROR``.
    """

    verdict: Verdict
    seconds: float = 0.0
    task: AgentTask | None = None
    error: AgentTaskError | None = None

    @property
    def waits(self) -> bool:
        """True if the caller has to check again."""
        return self.verdict is Verdict.WAIT

    @property
    def asks(self) -> bool:
        """True if the agent task awaits an answer."""
        return (
            self.verdict is Verdict.REACHED
            and self.task is not None
            and self.task.status is TaskState.AWAITING_INPUT
        )


class TaskWait:
    """
    Decides after each status check whether to keep waiting.

    :param working_since: When the agent task was submitted or got its last reply, in seconds since 1970. The
        intervals grow with the time since then, so the end is seen with a delay of about 5 % of that time.
    :param targets: The states to wait for; by default a final state or a question.
    :param poll_interval: Seconds between checks, if fixed; None for growing intervals.
    :param min_interval: The shortest growing interval in seconds.
    :param max_interval: The longest one.
    :param deadline: When to give up, in seconds since 1970 (wall clock: a wait moves between processes);
        None for never.
    :param max_outage: How many seconds of consecutive failed checks to tolerate.
    :param budget: The most that the agent task may use, by name; see ``services.usage``. Default None.
    :param draw: Returns a random number from 0 to 1, for the jitter.
    """

    def __init__(
        self,
        *,
        working_since: float,
        targets: Collection[TaskState] = ENDED_OR_ASKING,
        poll_interval: float | None = None,
        min_interval: float = SHORTEST_WAIT,
        max_interval: float = LONGEST_WAIT,
        deadline: float | None = None,
        max_outage: float = MAX_OUTAGE,
        budget: Mapping[str, float] | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.working_since = working_since
        self.targets = frozenset(targets)
        self.poll_interval = poll_interval
        self.min_interval = min_interval
        self.max_interval = max(min_interval, max_interval)
        self.deadline = deadline
        self.max_outage = max_outage
        self.budget = budget
        self._draw = draw
        self._outage_started_at: float | None = None
        self._failures = 0

    def begin(self, *, now: float) -> Decision:
        """Return the wait before the first check, if another process has just made one."""
        return self._wait(self._interval(now), now)

    def on_state(self, task: AgentTask, *, now: float, used: AgentTask | None = None) -> Decision:
        """
        Decide after a successful check.

        :param task: The agent task.
        :param now: The time in seconds since 1970.
        :param used: The agent task with what is known of its usage from elsewhere. Default: ``task``.
        """
        self._outage_started_at = None
        self._failures = 0
        if self.budget and task.status not in _BY_ITSELF and list_passed(used or task, self.budget):
            return Decision(Verdict.BUDGET, task=task)
        if task.status in self.targets:
            return Decision(Verdict.REACHED, task=task)
        if self.targets.isdisjoint(REACHABLE_STATES[task.status]):
            return Decision(Verdict.UNREACHABLE, task=task)
        return self._wait(self._interval(now), now, task)

    def on_error(self, error: AgentTaskError, *, now: float) -> Decision:
        """
        Decide after a failed check.

        Only transient failures are tolerated: for a time rather than a number of attempts, because ten
        connections may be refused within a second. No failure says anything about the agent task itself.
        """
        if not error.is_transient:
            return Decision(Verdict.ERROR, error=error)
        if self._measure_outage(error, now) >= self.max_outage:
            return Decision(Verdict.OUTAGE, error=error)
        # A fixed interval may be long, and a short outage must not cost a whole one.
        seconds = min(self._interval(now), LONGEST_WAIT)
        if not isinstance(error, AgentTaskCircuitOpenError):
            seconds = max(seconds, self._jittered(min(LONGEST_WAIT, 2.0 ** min(self._failures, 10))))
            self._failures += 1
        if isinstance(error, AgentTaskUnavailableError) and error.retry_after is not None:
            # No jitter here: it only shortens the wait, and a service counts early calls too.
            seconds = max(seconds, error.retry_after)
        return self._wait(seconds, now)

    def _measure_outage(self, error: AgentTaskError, now: float) -> float:
        if isinstance(error, AgentTaskCircuitOpenError):
            # No request was sent for this task: the outage began with the last response to any task.
            return error.outage_seconds
        if self._outage_started_at is None:
            self._outage_started_at = now
        return now - self._outage_started_at

    def _interval(self, now: float) -> float:
        if self.poll_interval is not None:
            return self.poll_interval
        grown = self.min_interval + GROWTH * max(0.0, now - self.working_since)
        return max(self.min_interval, self._jittered(min(self.max_interval, grown)))

    def _jittered(self, seconds: float) -> float:
        return seconds * (1.0 - JITTER * self._draw())

    def _wait(self, seconds: float, now: float, task: AgentTask | None = None) -> Decision:
        if self.deadline is not None:
            if now >= self.deadline:
                return Decision(Verdict.TIMEOUT, task=task)
            seconds = min(seconds, self.deadline - now)
        return Decision(Verdict.WAIT, seconds=seconds, task=task)
