"""
Only for Airflow 3.4 and later; tells of Airflow tasks that a clear replaces by others, without a next try.

That happens to a mapped task that Airflow 3.3 had expanded, once the whole of it is cleared, and to the later
rounds of a loop. What comes instead keeps its state elsewhere, and so finds no record of an agent task.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from airflow.models.taskinstance import TaskInstance
from sqlalchemy import event
from sqlalchemy.orm import object_session

from airflow_agent_tasks.airflow_compat.ended_tasks import REPLACED, EndedTask

log = logging.getLogger(__name__)


def watch(on_replaced: Callable[[EndedTask], None]) -> None:
    """
    Call a function with each task that this process replaces from now on, once that is committed.

    :param on_replaced: Must return at once. It is also called after the next commit where this one failed.
    """

    def on_set(row: Any, reason: Any, _before: Any, _initiator: Any) -> None:
        if reason != REPLACED:
            return
        try:
            ended = EndedTask.from_row(row, REPLACED)
            # A clear of thousands of tasks commits long after it has replaced the first one.
            event.listen(object_session(row), "after_commit", lambda _: tell(ended), once=True)
        except Exception as error:  # which would undo the clear, and end the scheduler
            warn(error)

    def tell(ended: EndedTask) -> None:
        try:
            on_replaced(ended)
        except Exception as error:
            warn(error)

    def warn(error: Exception) -> None:
        log.warning("The agent task of a replaced Airflow task may run on: %r", error)

    event.listen(TaskInstance.archived_reason, "set", on_set)
