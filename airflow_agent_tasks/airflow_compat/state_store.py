"""Airflow's task state store, as a worker reads and writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowRuntimeError

from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.submission import RECORD_KEY, StartRecord

if TYPE_CHECKING:
    from airflow.sdk import Context


class StartRecords:
    """
    The one :class:`StartRecord` of an Airflow task, in Airflow's task state store.

    :param context: The context of the try.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def read(self) -> StartRecord | None:
        """Return the record, or None."""
        return StartRecord.from_json(self._call("read", lambda store: store.get(RECORD_KEY)))

    def write(self, record: StartRecord) -> None:
        """Write the record."""
        self._call("written", lambda store: store.set(RECORD_KEY, record.to_json()))

    def drop(self) -> None:
        """Forget the record, so that the next try starts anew."""
        self._call("written", lambda store: store.delete(RECORD_KEY))

    def leave_running(self) -> None:
        """Note that nobody is to stop the agent task."""
        if record := self.read():
            self.write(replace(record, on_kill_policy="leave"))

    def _call(self, done: str, call: Callable[[Any], Any]) -> Any:
        try:
            return call(self._context["task_state_store"])
        except AirflowRuntimeError as error:
            raise AgentTaskError(f"Airflow's task state store could not be {done}: {error}") from None
