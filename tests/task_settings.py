"""What a DAG author chose, for tests of the life of an agent task that have no operator."""

from __future__ import annotations

from typing import Any

from airflow_agent_tasks.lifecycle.execution import TaskSettings

_DEFAULTS: dict[str, Any] = {
    "conn_id": "agents",
    "agent_id": None,
    "wait_for_completion": True,
    "deferrable": False,
    "poll_interval": None,
    "timeout": None,
    "execution_timeout": None,
    "on_timeout": "stop",
    "on_kill_policy": "stop",
    "on_uncertain_submit": "fail",
    "max_outage": 600.0,
    "on_awaiting_input": "ask",
    "has_reply": False,
    "has_notifiers": False,
    "input_timeout": None,
    "input_default": None,
    "input_recheck_interval": 600.0,
    "skip_on_exit_code": frozenset(),
    "no_retry_on_exit_code": frozenset(),
    "stream": False,
    "budget": None,
    "artifacts_path": None,
    "max_xcom_bytes": 65_536,
    "pushes_xcoms": True,
}


def build_settings(start_fields: dict[str, Any], **changes: Any) -> TaskSettings:
    """Return the settings of an operator that was given these arguments only."""
    return TaskSettings(start_fields=start_fields, **{**_DEFAULTS, **changes})
