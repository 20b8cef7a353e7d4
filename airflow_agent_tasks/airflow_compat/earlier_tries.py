"""
The table of the earlier tries of tasks.

Only for Airflow 3.3; delete with Airflow 3.4, which keeps them in the table of the present ones.
"""

from __future__ import annotations

from airflow.models.taskinstancehistory import TaskInstanceHistory

TRIES = TaskInstanceHistory
TRY_ID = TaskInstanceHistory.task_instance_id
