"""One status check, from a sensor or from an event loop; the wait policy decides."""

from __future__ import annotations

import time

from airflow_agent_tasks.agent_task import AgentTask, StartedTask, TaskState
from airflow_agent_tasks.errors import AgentTaskCircuitOpenError, AgentTaskError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.lifecycle.wait_policy import Decision, TaskWait, describe_failure, describe_state
from airflow_agent_tasks.logger_protocol import Log
from airflow_agent_tasks.polling.shared_poller import SharedPoller


class StatusChecker:
    """
    Gets one agent task's state, passes it to its ``TaskWait``, and logs changes only.

    :param started: The agent task.
    :param wait: Decides what to do next.
    :param log: The log for changes and failures.
    """

    def __init__(self, started: StartedTask, wait: TaskWait, log: Log) -> None:
        self._started = started
        self._wait = wait
        self._log = log
        self._checked_at = time.monotonic()
        self._last_seen: str | None = None

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
            return self._on_error(error)
        return self._on_state(task)

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
            return self._on_error(error)
        self._checked_at = time.monotonic()
        # The worker logged this state before it deferred; a restart of the triggerer need not log it again.
        self._last_seen = self._last_seen or describe_state(task)
        return self._on_state(task)

    def _on_state(self, task: AgentTask) -> Decision:
        self._log_change(describe_state(task), is_odd=task.status is TaskState.UNKNOWN)
        return self._wait.on_state(task, now=time.time())

    def _on_error(self, error: AgentTaskError) -> Decision:
        self._log_change(describe_failure(error), is_odd=True)
        return self._wait.on_error(error, now=time.time())

    def _log_change(self, seen: str, *, is_odd: bool) -> None:
        # If the supervisor is busy, a log line blocks the triggerer's event loop.
        if seen != self._last_seen:
            (self._log.warning if is_odd else self._log.info)("%s", seen)
        self._last_seen = seen
