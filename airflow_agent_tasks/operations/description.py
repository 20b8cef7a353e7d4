"""An agent task and its Airflow task as plain JSON, for the page and for commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_agent_tasks.agent_task import (
    QUESTION_LINK_KEY,
    TASK_LINK_KEY,
    TERMINAL_STATES,
    AgentTask,
    TaskState,
)
from airflow_agent_tasks.airflow_compat.submission_rows import SubmissionRow
from airflow_agent_tasks.services.base import Capability
from airflow_agent_tasks.services.lightcone import LightconeDialect
from airflow_agent_tasks.services.shinzo import ShinzoDialect
from airflow_agent_tasks.services.usage import describe_usage
from airflow_agent_tasks.text import clean, shorten

#: What can be done to an agent task, and what its service needs for that.
ACTIONS: Mapping[str, Capability | None] = {
    "message": Capability.MESSAGE,
    "pause": Capability.PAUSE,
    "resume": Capability.RESUME,
    "stop": None,
}
#: The longest question that is shown, in characters.
MAX_QUESTION = 4_000

_TERMINAL = {state.value for state in TERMINAL_STATES}
_CAPABILITIES = {dialect.service: dialect.capabilities for dialect in (LightconeDialect, ShinzoDialect)}


def describe(row: SubmissionRow) -> dict[str, Any]:
    """
    Return what is known about a submission without asking its service.

    Everything that comes from a service or an agent is cut to one line without control characters.

    :return: ``dag_id``, ``run_id``, ``task_id``, ``map_index`` (-1 if not mapped), ``try_number``, ``state``
        (of the Airflow task), ``service``, ``conn_id``, ``agent_id``, ``agent_task_id``, ``agent_state`` (as
        last seen), ``step``, ``usage``, ``submitted_at`` (seconds since 1970), ``question_url``, ``url``,
        ``actions`` (a list of ``ACTIONS``) and ``record`` (why it names no agent task: ``elsewhere``,
        ``damaged`` or ``unconfirmed``); unknown texts are empty, an unknown time is None.
    """
    scope, record = row.scope, row.record
    progress, usage = row.xcoms.get("progress"), row.xcoms.get("usage")
    return {
        "dag_id": scope.dag_id,
        "run_id": scope.run_id,
        "task_id": scope.task_id,
        "map_index": scope.map_index,
        "try_number": row.try_number,
        "state": row.state or "",
        "service": shorten(record.service) if record else "",
        "conn_id": shorten(record.conn_id) if record else "",
        "agent_id": shorten(record.agent_id or "") if record else "",
        "agent_task_id": shorten(record.task_id or "") if record else "",
        "agent_state": row.status,
        "step": "" if row.status in _TERMINAL else _describe_step(progress),
        "usage": describe_usage(usage) if isinstance(usage, Mapping) else "",
        "submitted_at": (record.submitted_at or None) if record else None,
        "question_url": _read_url(row, QUESTION_LINK_KEY) if row.status == TaskState.AWAITING_INPUT else "",
        "url": _read_url(row, TASK_LINK_KEY),
        "actions": list_actions(row),
        "record": _describe_record(row),
    }


def describe_now(row: SubmissionRow, task: AgentTask) -> dict[str, Any]:
    """
    Return the same as ``describe``, as the service has just described the agent task.

    :return: Also ``remote_status`` (the service's own word), ``exit_code`` and ``question``.
    """
    seen = {**row.xcoms, "status": task.status.value}
    if task.progress:
        seen["progress"] = task.progress.to_json()
    if task.usage:
        seen["usage"] = dict(task.usage)
    return {
        **describe(replace(row, xcoms=seen)),
        "agent_state": task.status.value,
        "remote_status": shorten(task.remote_status),
        "exit_code": task.exit_code,
        "question": clean(task.question or "", MAX_QUESTION),
    }


def list_actions(row: SubmissionRow) -> list[str]:
    """Return what can be done to an agent task, as far as that is known without asking its service."""
    if not row.is_open or row.record is None or row.record.task_id is None:
        return []
    status = row.status
    if status in _TERMINAL:
        return []
    # The service of another package may support everything.
    capabilities = _CAPABILITIES.get(row.record.service)
    supported = [
        name
        for name, needed in ACTIONS.items()
        if needed is None or capabilities is None or needed in capabilities
    ]
    useless = {"pause"} if status == TaskState.PAUSED else {"resume"} if status else set()
    if row.has_ended:
        useless.add("resume")  # nothing would watch it
    return [name for name in supported if name not in useless]


def _describe_step(progress: Any) -> str:
    """Return the agent's step, as in "3 of 10: Compare prices"."""
    if not isinstance(progress, Mapping):
        return ""
    name, done, total = (progress.get(key) for key in ("current_step", "steps_completed", "total_steps"))
    number = f"{done} of {total}" if isinstance(total, int) else str(done)
    parts = [number if isinstance(done, int) else "", name if isinstance(name, str) else ""]
    return shorten(": ".join(part for part in parts if part))


def _read_url(row: SubmissionRow, key: str) -> str:
    """Return a link that a task has stored; a ``javascript:`` URL would run in the browser of the reader."""
    url = row.xcoms.get(key)
    return shorten(url, 2_000) if isinstance(url, str) and url.startswith(("http://", "https://")) else ""


def _describe_record(row: SubmissionRow) -> str:
    """Return why the record names no agent task; empty if it does."""
    if row.is_elsewhere:
        return "elsewhere"
    if row.record is None:
        return "damaged"
    return "" if row.record.task_id else "unconfirmed"
