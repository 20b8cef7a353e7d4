"""Reports the measurements of one agent task, as metrics and in the trace of its Airflow task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.lifecycle.measurements import Count, Measurement, Time, read_usage_numbers
from airflow_agent_tasks.telemetry import metrics, spans


class Reporter:
    """
    Reports measurements with the same tags.

    :param tags: The tags of all metrics.
    :param carrier: The W3C trace context of the task instance. Default: none.
    """

    def __init__(self, tags: Mapping[str, str], carrier: Mapping[str, str] | None = None) -> None:
        self.tags = dict(tags)
        self._carrier = carrier or {}
        self._attributes: dict[str, object] = {}

    def describe(self, task: AgentTask) -> None:
        """Set what is known of the agent task on the current span, and on the spans that follow."""
        usage = read_usage_numbers(getattr(task, "usage", None))
        self._attributes = spans.describe_task(task, self.tags.get("conn_id", ""), usage)
        spans.annotate(self._attributes)

    def report(self, measurements: Iterable[Measurement]) -> None:
        """Report measurements; never fails."""
        for measurement in measurements:
            match measurement:
                case Count(name, value, tag):
                    metrics.count(name, value, self.tags, dict([tag]) if tag else {})
                    if not name.startswith("usage."):  # those are attributes
                        spans.add_event(name, {"agent_task." + tag[0]: tag[1]} if tag else {})
                case Time(name, began_at, ended_at):
                    metrics.time(name, ended_at - began_at, self.tags)
                    span_name = name.removesuffix("_duration")
                    spans.add_span(span_name, began_at, ended_at, self._attributes, self._carrier)
