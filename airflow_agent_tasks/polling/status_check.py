"""One status check, from a sensor or from an event loop; the wait policy decides."""

from __future__ import annotations

import asyncio
import time

from airflow_agent_tasks.agent_task import AgentTask, StartedTask
from airflow_agent_tasks.errors import AgentTaskCircuitOpenError, AgentTaskError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.lifecycle.pace import Pace
from airflow_agent_tasks.lifecycle.state_log import LogLine, StateLog
from airflow_agent_tasks.lifecycle.wait_policy import Decision, TaskWait
from airflow_agent_tasks.logger_protocol import Log
from airflow_agent_tasks.polling.loop_rate import LoopRate
from airflow_agent_tasks.polling.shared_poller import SharedPoller

#: The log lines of all waiting tasks of a triggerer: its only supervisor thread writes them, and while that
#: is behind, a line blocks the event loop.
LINES = LoopRate(10.0)
#: Seconds between two moments at which all tasks write their lines: the supervisor does a round of database
#: queries each time it wakes up, and takes the lines of one moment together.
LINE_TICK = 1.0


class StatusChecker:
    """
    Gets one agent task's state, passes it to its ``TaskWait``, and logs changes only.

    :param started: The agent task.
    :param wait: Decides what to do next.
    :param log: The log for changes and failures.
    :param submitted_at: When the agent task was submitted, in seconds since 1970. Default None: unknown.
    :param in_triggerer: True if this task shares the triggerer's log with others. Default False.
    """

    def __init__(
        self,
        started: StartedTask,
        wait: TaskWait,
        log: Log,
        *,
        submitted_at: float | None = None,
        in_triggerer: bool = False,
    ) -> None:
        self._started = started
        self._wait = wait
        self._log = log
        self._submitted_at = submitted_at
        self._state_log = StateLog(Pace(LINES if in_triggerer else None), in_triggerer=in_triggerer)
        self._checked_at = time.monotonic()

    def check(self, hook: AgentTaskHook, *, retries: bool = False) -> Decision:
        """
        Check once from a worker, and decide.

        :param hook: The hook of the service.
        :param retries: True to retry transient failures before deciding.
        """
        started = self._started
        try:
            task = hook.get_task(started.agent_task_id, started.agent_id, retries=retries)
        except AgentTaskError as error:
            decision, line = self._on_error(error)
        else:
            decision, line = self._on_state(task)
        return self._write(line, decision)

    async def acheck(self, poller: SharedPoller) -> Decision:
        """Check once from an event loop, and decide."""
        started = self._started
        try:
            task = await poller.get_task(started.agent_task_id, started.agent_id, since=self._checked_at)
        except AgentTaskCircuitOpenError as error:
            # The task whose request failed has logged it; ten thousand lines would block the event loop.
            return self._wait.on_error(error, now=time.time())
        except AgentTaskError as error:
            self._checked_at = time.monotonic()
            decision, line = self._on_error(error)
        else:
            self._checked_at = time.monotonic()
            decision, line = self._on_state(task)
        if line and decision.waits:
            await asyncio.sleep(-asyncio.get_running_loop().time() % LINE_TICK)
        return self._write(line, decision)

    def _on_state(self, task: AgentTask) -> tuple[Decision, LogLine | None]:
        now = time.time()
        decision = self._wait.on_state(task, now=now)
        line = self._state_log.on_state(
            task, now=now, submitted_at=self._submitted_at, is_last=not decision.waits
        )
        return decision, line

    def _on_error(self, error: AgentTaskError) -> tuple[Decision, LogLine | None]:
        now = time.time()
        line = self._state_log.on_failure(error, now=now)
        return self._wait.on_error(error, now=now), line

    def _write(self, line: LogLine | None, decision: Decision) -> Decision:
        if line:
            getattr(self._log, line.level)("%s", line.text)
        return decision
