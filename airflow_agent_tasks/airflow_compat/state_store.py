"""Airflow's task state store, as a worker reads and writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.commands import Command, DropSubmission, SaveSubmission
from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY, Submission

if TYPE_CHECKING:
    from airflow.sdk import Context


class SubmissionStore:
    """
    The ``Submission`` of an Airflow task, in Airflow's task state store.

    :param context: The context of the try.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def perform(self, command: Command[Any]) -> Any:
        """Perform one command of the lifecycle."""
        match command:
            case SaveSubmission(submission):
                return self.save(submission)
            case DropSubmission():
                return self.drop()
        return self.load()

    def load(self) -> Submission | None:
        """Return the record, or None; raises AgentTaskError if it is damaged or the store cannot be read."""
        stored = self._call("read", lambda store: store.get(RECORD_KEY))
        return None if stored is None else Submission.from_json(stored)

    def save(self, submission: Submission) -> None:
        """Write the record; raises AgentTaskError if the store cannot be written."""
        self._call("written", lambda store: store.set(RECORD_KEY, submission.to_json()))

    def drop(self) -> None:
        """Remove the record of a start that started nothing."""
        self._call("written", lambda store: store.delete(RECORD_KEY))

    def _call(self, done: str, call: Callable[[Any], Any]) -> Any:
        try:
            return call(self._context["task_state_store"])
        except Exception as error:
            # Not only Airflow's own error: a custom backend and the channel to the supervisor raise others,
            # and an agent task must be stopped even then.
            raise AgentTaskError(
                f"Airflow's task state store could not be {done}: {_explain(error)}"
            ) from None


def _explain(error: Exception) -> str:
    detail = getattr(getattr(error, "error", None), "detail", None)
    if isinstance(detail, Mapping) and detail.get("status_code") == HTTPStatus.NOT_FOUND:
        return "as far as Airflow knows, this try has ended, because someone cleared or ended the task (404)."
    return str(error)
