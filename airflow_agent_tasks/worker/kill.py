"""The kill of a running worker: stops the agent task unless another try will attach to it."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

from airflow_agent_tasks.agent_task import AgentTask, StartedTask
from airflow_agent_tasks.airflow_compat.task_states import FINAL_STATES, read_state
from airflow_agent_tasks.documentation import STILL_RUNNING
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.lifecycle.stop import describe_stop
from airflow_agent_tasks.logger_protocol import Log

#: Airflow sends SIGKILL 5 s after SIGTERM. Airflow 3.4 waits longer (``[core] killed_task_cleanup_time``),
#: but only if the server ended the task, or at ``execution_timeout``.
SECONDS_FOR_ALL = 4.5
#: Limited, because a worker that is being drained may have lost Airflow's API too.
SECONDS_TO_READ_STATE = 2.0


class WorkerKill:
    """
    Implements ``on_kill`` of a worker, which runs in a signal handler, on top of the interrupted code.

    Everything happens in threads and on a separate connection, because the interrupted code keeps its locks
    (of Airflow's channel, of a connection pool) until the handler returns.

    :param find_hook: Returns the hook of the service.
    :param started: The agent task.
    :param task_instance: The Airflow task instance.
    :param log: The task's log.
    :param on_stopped: Called with the agent task after the stop, in a thread.
    :param has_next_try: True if Airflow will try again after a failure.
    """

    def __init__(
        self,
        find_hook: Callable[[], AgentTaskHook],
        started: StartedTask,
        task_instance: Any,
        log: Log,
        on_stopped: Callable[[AgentTask], None],
        *,
        has_next_try: bool,
    ) -> None:
        self._find_hook = find_hook
        self._started = started
        self._ti = task_instance
        self._log = log
        self._on_stopped = on_stopped
        self._has_next_try = has_next_try
        self._state: str | None = None
        self.has_stopped = False
        #: True if Airflow did not report the state in time: the interrupted code may have held its channel.
        self.is_undecided = False

    def run(self) -> bool:
        """Stop the agent task if needed, within 4.5 s; return whether it was stopped."""
        if not self._is_abandoned():
            self._log.warning(
                "This worker is being terminated while the task is %s. Agent task %s keeps running: the next "
                "try attaches to it, or stops it if the task was cleared.",
                self._state or "in a state that Airflow did not report",
                self._started.agent_task_id,
            )
            return False
        _run_for(SECONDS_FOR_ALL - SECONDS_TO_READ_STATE, self._stop)
        return self.has_stopped

    def _is_abandoned(self) -> bool:
        _run_for(SECONDS_TO_READ_STATE, self._read_state)
        self.is_undecided = self._state is None
        # After a clear ("restarting"), the next try would stop this agent task anyway.
        if self._state in {*FINAL_STATES, "restarting"}:
            return True
        return self._state in ("running", None) and not self._has_next_try

    def _read_state(self) -> None:
        self._state = read_state(self._ti, self._log)

    def _stop(self) -> None:
        started = self._started
        try:
            task = self._find_hook().fork().stop_task(started.agent_task_id, started.agent_id, retries=False)
        except AgentTaskError as error:
            self._log.warning(
                "The task was killed, but its agent task may still be running: %s See %s",
                error,
                STILL_RUNNING,
            )
            return
        self.has_stopped = task.is_stopped
        log = self._log.info if task.is_stopped else self._log.warning
        log("The task was killed, and its agent task %s", describe_stop(task))
        self._on_stopped(task)


def _run_for(seconds: float, work: Callable[[], None]) -> None:
    thread = Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
