"""
Reports Airflow tasks that a clear replaces with others and that have no next try. Only for Airflow 3.4 and
later.

A clear replaces a mapped task that Airflow 3.3 had expanded, if all its indexes are cleared, and the later
iterations of a loop. The new tasks store their state elsewhere, and so find no record of an agent task.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from airflow.models.taskinstance import TaskInstance
from sqlalchemy import event
from sqlalchemy.orm import Session, object_session

from airflow_agent_tasks.airflow_compat.ended_tasks import REPLACED, EndedTask
from airflow_agent_tasks.documentation import STILL_RUNNING

log = logging.getLogger(__name__)

#: Under this key, a session stores the tasks that it has replaced but not committed yet.
_UNCOMMITTED = "agent_tasks_replaced"


def watch(on_replaced: Callable[[EndedTask], None]) -> None:
    """
    Call a function with each task that this process replaces from now on, after the commit.

    A clear of thousands of tasks commits long after it has replaced the first one.

    :param on_replaced: The function, which must return at once.
    """

    def note(row: Any, reason: Any, _before: Any, _initiator: Any) -> None:
        session = object_session(row)
        if reason != REPLACED or session is None:
            return
        try:
            session.info.setdefault(_UNCOMMITTED, []).append(EndedTask.from_row(row, REPLACED))
        except Exception as error:  # would undo the clear, and end the scheduler
            warn(error)

    def tell(session: Session) -> None:
        # Both events also fire at the end of a savepoint.
        for ended in () if session.in_nested_transaction() else session.info.pop(_UNCOMMITTED, ()):
            try:
                on_replaced(ended)
            except Exception as error:
                warn(error)

    def forget(session: Session) -> None:
        if not session.in_nested_transaction():
            session.info.pop(_UNCOMMITTED, None)

    def warn(error: Exception) -> None:
        log.warning(
            "The agent task of a replaced Airflow task may still be running: %r See %s", error, STILL_RUNNING
        )

    event.listen(TaskInstance.archived_reason, "set", note)
    event.listen(Session, "after_commit", tell)
    event.listen(Session, "after_rollback", forget)
