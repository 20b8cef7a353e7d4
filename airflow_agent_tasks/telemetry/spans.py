"""
Adds to Airflow's traces of its tasks: attributes and events on a task's span, and spans of periods.

Airflow itself makes one span for each execution on a worker and one for each wait in a triggerer. Both are
children of the task instance's span, which the carrier names, and so are the spans of this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.telemetry.failures import swallowed_failures

PREFIX = "agent_task."
#: Maximum number of characters of an attribute.
MAX_ATTRIBUTE = 200


def describe_task(task: AgentTask, conn_id: str, usage: Mapping[str, float]) -> dict[str, Any]:
    """Return the attributes of an agent task; the values come from the service, so they are bounded."""
    values = {
        "service": task.service,
        "id": task.task_id,
        "agent_id": task.agent_id,
        "conn_id": conn_id,
        "state": task.status.value,
        "exit_code": task.exit_code,
        **{f"usage.{name}": number for name, number in usage.items()},
    }
    return {
        f"{PREFIX}{name}": value[:MAX_ATTRIBUTE] if isinstance(value, str) else value
        for name, value in values.items()
        if value is not None
    }


def annotate(attributes: Mapping[str, Any]) -> None:
    """Set attributes on the span of the current execution or wait."""
    with swallowed_failures("traces"):
        if span := _find_span():
            span.set_attributes(attributes)


def add_event(name: str, attributes: Mapping[str, Any]) -> None:
    """Add an event to the span of the current execution or wait."""
    with swallowed_failures("traces"):
        if span := _find_span():
            span.add_event(f"{PREFIX}{name}", attributes)


def add_span(
    name: str, began_at: float, ended_at: float, attributes: Mapping[str, Any], carrier: Mapping[str, str]
) -> None:
    """
    Add the span of a period that has ended, perhaps begun by a worker that is gone.

    :param name: The span's name, without the prefix.
    :param began_at: In seconds since 1970.
    :param ended_at: In seconds since 1970.
    :param attributes: Its attributes.
    :param carrier: The W3C trace context of the task instance.
    """
    with swallowed_failures("traces"):
        if _find_span() is None:
            return
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        # Without a carrier, the parent is the current span.
        parent = TraceContextTextMapPropagator().extract(carrier) if carrier else None
        tracer = trace.get_tracer(__name__)
        span = tracer.start_span(
            f"{PREFIX}{name}",
            context=parent,
            start_time=int(began_at * 1e9),
            attributes=attributes,
        )
        span.end(int(ended_at * 1e9))


def _find_span() -> Any:
    """Return the current span if it is recorded, else None; imports nothing while tracing is off."""
    from airflow.sdk import conf

    if not conf.getboolean("traces", "otel_on", fallback=False):
        return None
    from opentelemetry import trace

    span = trace.get_current_span()
    return span if span.is_recording() else None
