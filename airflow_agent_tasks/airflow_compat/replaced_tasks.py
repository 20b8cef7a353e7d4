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
from sqlalchemy.orm import Session, object_session

from airflow_agent_tasks.airflow_compat.ended_tasks import REPLACED, EndedTask

log = logging.getLogger(__name__)

#: Under this key a session holds what it has replaced and not committed.
_UNCOMMITTED = "agent_tasks_replaced"


def watch(on_replaced: Callable[[EndedTask], None]) -> None:
    """
    Call a function with each task that this process replaces from now on, once that is committed.

    A clear of thousands of tasks commits long after it has replaced the first one.

    :param on_replaced: Must return at once.
    """

    def note(row: Any, reason: Any, _before: Any, _initiator: Any) -> None:
        session = object_session(row)
        if reason != REPLACED or session is None:
            return
        try:
            session.info.setdefault(_UNCOMMITTED, []).append(EndedTask.from_row(row, REPLACED))
        except Exception as error:  # which would undo the clear, and end the scheduler
            warn(error)

    def tell(session: Session) -> None:
        # Both events also come at the end of a savepoint.
        for ended in () if session.in_nested_transaction() else session.info.pop(_UNCOMMITTED, ()):
            try:
                on_replaced(ended)
            except Exception as error:
                warn(error)

    def forget(session: Session) -> None:
        if not session.in_nested_transaction():
            session.info.pop(_UNCOMMITTED, None)

    def warn(error: Exception) -> None:
        log.warning("The agent task of a replaced Airflow task may run on: %r", error)

    event.listen(TaskInstance.archived_reason, "set", note)
    event.listen(Session, "after_commit", tell)
    event.listen(Session, "after_rollback", forget)
