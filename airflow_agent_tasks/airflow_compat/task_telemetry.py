"""What Airflow knows of a task instance for its own metrics and traces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def read_stats_tags(task_instance: Any) -> Mapping[str, str]:
    """Return the tags of Airflow's own metrics of a task instance on a worker: DAG, task and team."""
    ti = task_instance
    return getattr(ti, "stats_tags", None) or {"dag_id": ti.dag_id, "task_id": ti.task_id}


def read_trace_carrier(task_instance: Any) -> Mapping[str, str]:
    """Return the W3C trace context under which Airflow traces a task instance; empty if it traces nothing."""
    return getattr(task_instance, "context_carrier", None) or {}
