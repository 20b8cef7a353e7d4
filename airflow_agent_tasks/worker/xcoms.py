"""Performs the lifecycle's XCom commands: the values that stay readable even if the Airflow task fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from airflow_agent_tasks.agent_task import STATUS_KEY, AgentTask, TaskState
from airflow_agent_tasks.lifecycle.artifact import ARTIFACTS_KEY
from airflow_agent_tasks.lifecycle.commands import Command, PushArtifacts, PushId, PushQuestions, PushTask
from airflow_agent_tasks.lifecycle.pace import Pace
from airflow_agent_tasks.logger_protocol import Log
from airflow_agent_tasks.polling.state_xcoms import list_moving_values

ERROR_KEY = "error"
TASK_ID_KEY = "task_id"


class XComs:
    """
    Pushes changed values to the XCom of one task instance; a failed push is only logged.

    :param task_instance: The task instance.
    :param log: The task's log.
    :param is_wanted: The operator's ``do_xcom_push``.
    :param clock: Returns the monotonic time in seconds.
    """

    def __init__(
        self, task_instance: Any, log: Log, *, is_wanted: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._task_instance = task_instance
        self._log = log
        self._is_wanted = is_wanted
        self._clock = clock
        self._pace = Pace()
        #: The pushed values by key. Each push is a round trip, so an empty list of answers is not pushed.
        self._pushed: dict[str, Any] = {"answers": []}

    def perform(self, command: Command[Any]) -> None:
        """Perform one command."""
        if not self._is_wanted:
            return
        match command:
            case PushId(started):
                self._push(TASK_ID_KEY, started.agent_task_id)
            case PushTask(task):
                self._push_task(task)
            case PushArtifacts(artifacts):
                self._push(ARTIFACTS_KEY, artifacts)
            case PushQuestions(questions):
                self._push("answers", questions.list_answers())

    @property
    def noted_status(self) -> str | None:
        """The status, if this execution has pushed both it and the id."""
        return self._pushed.get(STATUS_KEY) if TASK_ID_KEY in self._pushed else None

    def push_status(self, task: AgentTask) -> None:
        """Push only the status, when the worker is being killed."""
        if self._is_wanted:
            self._push(STATUS_KEY, task.status.value)

    def push_error(self, reason: str) -> None:
        """Push why the Airflow task fails."""
        if self._is_wanted:
            self._push(ERROR_KEY, reason)

    def push_transcript(self, transcript: dict[str, Any]) -> None:
        """Push the last events of a stream."""
        if self._is_wanted:
            self._push("transcript", transcript)

    def pull_artifacts(self) -> Any:
        """Return the list of artifacts in XCom, if an earlier execution of this try has pushed it."""
        ti = self._task_instance
        if not self._is_wanted:
            return None
        try:
            return ti.xcom_pull(task_ids=ti.task_id, key=ARTIFACTS_KEY, map_indexes=ti.map_index)
        except Exception as error:  # would keep the agent's result from being delivered
            self._log.warning("Could not read the artifacts in XCom: %r", error)
            return None

    def _push_task(self, task: AgentTask) -> None:
        has_new_state = self._pushed.get(STATUS_KEY) != task.status.value
        self._push(STATUS_KEY, task.status.value)
        if task.exit_code is not None:
            self._push("exit_code", task.exit_code)
        if task.status is TaskState.AWAITING_INPUT:
            self._push("question", task.question)
        changes = {
            key: value for key, value in list_moving_values(task).items() if value != self._pushed.get(key)
        }
        is_urgent = has_new_state or task.is_terminal
        if changes and self._pace.take(now=self._clock(), at_once=is_urgent):
            for key, value in changes.items():
                self._push(key, value)

    def _push(self, key: str, value: Any) -> None:
        if key in self._pushed and value == self._pushed[key]:
            return
        try:
            self._task_instance.xcom_push(key=key, value=value)
        except Exception as error:  # would end the wait, or hide why it ended or failed
            self._log.warning("Could not push the %s to XCom: %r", key, error)
        else:
            self._pushed[key] = value
