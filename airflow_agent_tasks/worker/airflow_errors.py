"""From our errors to what Airflow makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowFailException

from airflow_agent_tasks.agent_task import AgentTask, TaskState
from airflow_agent_tasks.errors import AgentTaskCancelledError, AgentTaskError, AgentTaskFailedError
from airflow_agent_tasks.text import shorten


@contextmanager
def airflow_failures() -> Iterator[None]:
    """
    Let our errors reach Airflow without the frames and causes below, which tell a user nothing.

    :raises AirflowFailException: for what a retry would meet again, so that Airflow makes none.
    """
    try:
        yield
    except AgentTaskError as error:
        if error.is_final:
            raise AirflowFailException(str(error)) from None
        raise error.with_traceback(None) from None


def build_failure(task: AgentTask, *, is_final: bool) -> AgentTaskFailedError | AgentTaskCancelledError:
    """Return the error of an agent task that ended badly: which task, which state, what the agent said."""
    said = task.result if isinstance(task.result, str) else json.dumps(task.result, ensure_ascii=False)
    hint = f" The agent said: {shorten(said, 500)!r}." if task.result is not None else ""
    if task.status is TaskState.CANCELLED:
        return AgentTaskCancelledError(
            f"{task} was cancelled on the service.{hint}", task=task, is_final=is_final
        )
    return AgentTaskFailedError(f"{task} did not succeed.{hint}", task=task, is_final=is_final)
