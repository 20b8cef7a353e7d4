"""The XCom commands of the agent task's life: what must be readable even if the Airflow task fails."""

from __future__ import annotations

from typing import Any

from airflow_agent_tasks.agent_task import AgentTask, Progress, TaskState
from airflow_agent_tasks.lifecycle.commands import Command, PushAnswers, PushProgress, PushTask
from airflow_agent_tasks.polling.progress_xcom import PROGRESS_KEY


class XComs:
    """
    Pushes to the XCom of one task instance.

    :param task_instance: Whose XCom.
    :param is_wanted: False if the operator's ``do_xcom_push`` is.
    """

    def __init__(self, task_instance: Any, *, is_wanted: bool) -> None:
        self._push = task_instance.xcom_push
        self._is_wanted = is_wanted
        self._progress: Progress | None = None
        self._answers: list[dict[str, Any]] = []

    def perform(self, command: Command[Any]) -> None:
        """Perform one command."""
        if not self._is_wanted:
            return
        match command:
            case PushTask(task):
                self._push_task(task)
            case PushProgress(progress):
                self._push_progress(progress)
            case PushAnswers(answers):
                self._push_answers(answers)

    def _push_task(self, task: AgentTask) -> None:
        self._push(key="task_id", value=task.task_id)
        self._push(key="status", value=task.status.value)
        if task.exit_code is not None:
            self._push(key="exit_code", value=task.exit_code)
        if task.status is TaskState.AWAITING_INPUT:
            self._push(key="question", value=task.question)
        if task.progress:
            self._push_progress(task.progress)

    def _push_progress(self, progress: Progress) -> None:
        if progress != self._progress:
            self._push(key=PROGRESS_KEY, value=progress.to_json())
            self._progress = progress

    def _push_answers(self, answers: list[dict[str, Any]]) -> None:
        if answers != self._answers:
            self._push(key="answers", value=answers)
            self._answers = answers
