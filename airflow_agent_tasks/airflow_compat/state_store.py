"""Airflow's task state store, as a worker reads and writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY, Submission

if TYPE_CHECKING:
    from airflow.sdk import Context


class SubmissionStore:
    """
    The one :class:`Submission` of an Airflow task, in Airflow's task state store.

    :param context: The context of the try.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def load(self) -> Submission | None:
        """Return the record, or None; raises AgentTaskError where the store cannot be read, or it is none."""
        stored = self._call("read", lambda store: store.get(RECORD_KEY))
        return None if stored is None else Submission.from_json(stored)

    def save(self, submission: Submission) -> None:
        """Write the record; raises AgentTaskError where the store cannot be written."""
        self._call("written", lambda store: store.set(RECORD_KEY, submission.to_json()))

    def drop(self) -> None:
        """Remove the record, so that the next try starts a new agent task."""
        self._call("written", lambda store: store.delete(RECORD_KEY))

    def _call(self, done: str, call: Callable[[Any], Any]) -> Any:
        try:
            return call(self._context["task_state_store"])
        except Exception as error:
            # Not only Airflow's own error: a custom backend and the channel to the supervisor raise others,
            # and an agent task has to be stopped all the same.
            raise AgentTaskError(
                f"Airflow's task state store could not be {done}: {_explain(error)}"
            ) from None


def _explain(error: Exception) -> str:
    detail = getattr(getattr(error, "error", None), "detail", None)
    if isinstance(detail, Mapping) and detail.get("status_code") == HTTPStatus.NOT_FOUND:
        return "this try is over for Airflow, because the task was cleared or ended in the meantime (404)."
    return str(error)
