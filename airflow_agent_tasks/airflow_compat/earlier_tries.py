"""
Finds a task by the id of one of its earlier tries.

Only for Airflow 3.3; delete with Airflow 3.4, which keeps the tries in the table of the present ones.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import select

from airflow_agent_tasks.airflow_compat.ended_tasks import SCOPE_NAMES


def select_earlier_try(task_instance_id: UUID) -> Any:
    """Return a query for the names of the task whose earlier try has an id."""
    # Imported here: Airflow 3.4 has no such module, and every module can be imported there.
    from airflow.models.taskinstancehistory import TaskInstanceHistory

    names = [getattr(TaskInstanceHistory, name) for name in SCOPE_NAMES]
    return select(*names).where(TaskInstanceHistory.task_instance_id == task_instance_id)
