"""What an operator leaves in XCom besides its return value."""

from __future__ import annotations

from typing import Any

from airflow_agent_tasks.agent_task import AgentTask, Progress, TaskState
from airflow_agent_tasks.lifecycle.questions import Questions
from airflow_agent_tasks.polling.progress_xcom import PROGRESS_KEY


class XComNotes:
    """
    Leaves what must be readable even if the Airflow task fails.

    :param task_instance: Whose XCom.
    :param is_wanted: False where the operator's ``do_xcom_push`` is.
    """

    def __init__(self, task_instance: Any, *, is_wanted: bool) -> None:
        self._push = task_instance.xcom_push
        self._is_wanted = is_wanted
        self._progress: Progress | None = None
        self._answers: list[dict[str, Any]] = []

    def push(self, task: AgentTask) -> None:
        """Leave the id, the state, and what there is of exit code, question and progress."""
        if not self._is_wanted:
            return
        self._push(key="task_id", value=task.task_id)
        self._push(key="status", value=task.status.value)
        if task.exit_code is not None:
            self._push(key="exit_code", value=task.exit_code)
        if task.status is TaskState.AWAITING_INPUT:
            self._push(key="question", value=task.question)
        self.push_progress(task)

    def push_answers(self, questions: Questions) -> None:
        """Leave who answered which question, when and what, on change."""
        answers = questions.list_answers()
        if self._is_wanted and answers != self._answers:
            self._push(key="answers", value=answers)
            self._answers = answers

    def push_progress(self, task: AgentTask | None) -> None:
        """Leave the progress, on change."""
        if self._is_wanted and task and task.progress and task.progress != self._progress:
            self._push(key=PROGRESS_KEY, value=task.progress.to_json())
            self._progress = task.progress
