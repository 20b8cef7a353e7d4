"""What a DAG author chose, for tests of the life of an agent task that have no operator."""

from __future__ import annotations

from typing import Any

from airflow_agent_tasks.lifecycle.execution import TaskSettings
from airflow_agent_tasks.lifecycle.wait_policy import LONGEST_WAIT, SHORTEST_WAIT

#: Seconds between two polls of an agent task whose service calls.
CALLBACK_POLL_INTERVAL = 300.0
_DEFAULTS: dict[str, Any] = {
    "conn_id": "agents",
    "agent_id": None,
    "wait_for_completion": True,
    "deferrable": False,
    "poll_interval": None,
    "min_poll_interval": SHORTEST_WAIT,
    "max_poll_interval": LONGEST_WAIT,
    "callback_poll_interval": CALLBACK_POLL_INTERVAL,
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
