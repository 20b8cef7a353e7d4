"""Airflow's audit log, for what people do to agent tasks in the UI and with commands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from airflow.models.log import Log
from airflow.providers.common.compat.sdk import redact
from airflow.utils.session import create_session

from airflow_agent_tasks.airflow_compat.submission_rows import SubmissionRow
from airflow_agent_tasks.text import shorten


def write_audit_log(event: str, row: SubmissionRow, user: str, details: Mapping[str, str]) -> None:
    """
    Write one entry, which Airflow shows with the DAG, the run and the task.

    :param event: What was done, in at most 60 characters.
    :param row: The task to whose agent it was done.
    :param user: The name of the user.
    :param details: What else to keep; secrets are masked, and texts cut to 500 characters.
    """
    scope = row.scope
    kept: Any = redact({key: shorten(text, 500) for key, text in details.items()})
    entry = Log(
        event=event,
        owner=user,
        owner_display_name=user,
        extra=json.dumps(kept),
        dag_id=scope.dag_id,
        run_id=scope.run_id,
        task_id=scope.task_id,
        map_index=scope.map_index,
        try_number=row.try_number or None,
    )
    with create_session() as session:
        session.add(entry)
