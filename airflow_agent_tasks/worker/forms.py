"""Performs the lifecycle's form commands, and hides the secrets that Airflow knows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import redact

from airflow_agent_tasks.airflow_compat.required_action import RequiredAction
from airflow_agent_tasks.lifecycle.commands import CloseForm, Command, MakeForm, ReadForm, ShowForm
from airflow_agent_tasks.lifecycle.question_form import Asking
from airflow_agent_tasks.logger_protocol import Log
from airflow_agent_tasks.text import clean

if TYPE_CHECKING:
    from airflow_agent_tasks.airflow_compat.required_action import HITLUser


class Forms:
    """
    Performs the commands for the form of one task instance.

    :param task_instance: The task instance.
    :param users: The users who may answer; empty for everyone with permission in Airflow.
    :param log: The task's log.
    """

    def __init__(self, task_instance: Any, users: Collection[HITLUser], log: Log) -> None:
        self._action = RequiredAction(task_instance, log)
        self._users = list(users)

    def perform(self, command: Command[Any]) -> Any:
        """Perform one command, and return its result."""
        match command:
            case ShowForm(asking, reopen):
                return self._action.show(self._complete(asking), self._users, reopen=reopen)
            case MakeForm(asking):
                return self._action.make(self._complete(asking), self._users)
            case ReadForm(form_id):
                return self._action.read(form_id)
            case CloseForm():
                return self._action.close()
        raise TypeError(f"{type(command).__name__} is not a command for a form")

    def _complete(self, asking: Asking) -> Asking:
        """Return the question with the users who may answer, and without secrets."""
        task = asking.task
        progress = task.progress
        if progress and progress.current_step:
            progress = replace(progress, current_step=_redact(progress.current_step))
        return replace(
            asking,
            task=replace(task, question=_redact(task.question), progress=progress),
            instruction=_redact(asking.instruction),
            input_default=None if asking.input_default is None else _redact(asking.input_default),
            users=tuple(user["name"] for user in self._users),
        )


def _redact(text: str | None) -> str:
    # Cleaned first: the form omits invisible characters, which may have split a secret.
    text = text or ""
    return str(redact(clean(text, len(text))))
