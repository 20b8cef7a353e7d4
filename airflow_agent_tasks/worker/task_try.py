"""The try of an Airflow task, as the lifecycle knows it."""

from __future__ import annotations

from typing import Any

from airflow_agent_tasks.lifecycle.execution import TaskTry


def describe_try(ti: Any) -> TaskTry:
    """
    Return the values of a try.

    :param ti: The Airflow task instance.
    """
    return TaskTry(
        # The id distinguishes this task instance from one with the same names in another Airflow that uses
        # the same API key; the try number distinguishes one intended start from the next.
        owner=(ti.dag_id, ti.run_id, ti.task_id, ti.map_index, ti.try_number, ti.id),
        task_instance_id=str(ti.id),
        try_number=ti.try_number,
        max_tries=ti.max_tries,
        began_at=ti.start_date.timestamp(),
        log_url=ti.log_url,
    )
