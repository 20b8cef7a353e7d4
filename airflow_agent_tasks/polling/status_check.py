"""One status check, for worker and sensor, and the same for the triggerer; the wait policy decides."""

from __future__ import annotations

import time
from collections.abc import Callable

from airflow_agent_tasks.agent_task import AgentTask, StartedTask, TaskState
from airflow_agent_tasks.errors import AgentTaskError, AgentTaskHeldBackError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.lifecycle.wait_policy import Decision, TaskWait
from airflow_agent_tasks.logger import Log
from airflow_agent_tasks.polling.shared_poller import WaitingPlace


class StatusWatch:
    """
    Asks for one agent task's state and tells its :class:`TaskWait`; logs changes only.

    :param started: The agent task.
    :param wait: What decides.
    :param log: Where changes and failures are logged.
    """

    def __init__(self, started: StartedTask, wait: TaskWait, log: Log) -> None:
        self._started = started
        self._wait = wait
        self._log = log
        self._asked_at = time.monotonic()
        self._last_seen: str | None = None

    def check(self, find_hook: Callable[[], AgentTaskHook], *, retries: bool = False) -> Decision:
        """
        Ask once from a worker, and decide.

        :param find_hook: Returns the hook of the service; where its connection cannot be read, that counts as
            a failure to ask, which is waited out like any other.
        """
        started = self._started
        try:
            task = find_hook().get_task(started.agent_task_id, started.agent_id, retries=retries)
        except AgentTaskError as error:
            return self._on_error(error)
        return self._on_state(task)

    async def acheck(self, place: WaitingPlace) -> Decision:
        """Ask once from an event loop, and decide."""
        started = self._started
        try:
            task = await place.ask(started.agent_task_id, started.agent_id, since=self._asked_at)
        except AgentTaskHeldBackError as error:
            # Whoever was refused has logged it: ten thousand lines would hold the event loop.
            return self._wait.on_error(error, now=time.time())
        except AgentTaskError as error:
            self._asked_at = time.monotonic()
            return self._on_error(error)
        self._asked_at = time.monotonic()
        # The worker has logged what it saw before it deferred, and a restart of the triggerer is no change.
        self._last_seen = self._last_seen or _describe(task)
        return self._on_state(task)

    def _on_state(self, task: AgentTask) -> Decision:
        self._log_change(_describe(task), is_odd=task.status is TaskState.UNKNOWN)
        return self._wait.on_state(task, now=time.time())

    def _on_error(self, error: AgentTaskError) -> Decision:
        self._log_change(f"Could not ask: {error}", is_odd=True)
        return self._wait.on_error(error, now=time.time())

    def _log_change(self, seen: str, *, is_odd: bool) -> None:
        # The triggerer's event loop stands still for a line that its supervisor has no time to take.
        if seen != self._last_seen:
            (self._log.warning if is_odd else self._log.info)("%s", seen)
        self._last_seen = seen


def _describe(task: AgentTask) -> str:
    return f"Seen: {task}"
