"""Reports the measurements of one agent task, as metrics and in the trace of its Airflow task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.lifecycle.measurements import Count, Measurement, Time, read_usage_numbers
from airflow_agent_tasks.telemetry import metrics, spans


class Reporter:
    """
    Reports measurements with the same tags.

    :param conn_id: The Airflow connection.
    :param service: The service, as far as it is known: a connection that cannot be read names none.
    :param tags: Further tags of all metrics. Default: none.
    :param carrier: The W3C trace context of the task instance. Default: none.
    """

    def __init__(
        self,
        conn_id: str,
        service: str = "unknown",
        tags: Mapping[str, str] | None = None,
        carrier: Mapping[str, str] | None = None,
    ) -> None:
        self.service = service
        self._conn_id = conn_id
        self._tags = tags or {}
        self._carrier = carrier or {}

    def report(self, measurements: Iterable[Measurement], task: AgentTask | None = None) -> None:
        """
        Report measurements; never fails.

        :param task: The agent task as last seen, whose id, state and usage the current span gets.
        """
        tags = {**self._tags, "service": self.service, "conn_id": self._conn_id}
        attributes = spans.describe_task(task, self._conn_id, read_usage_numbers(task)) if task else {}
        spans.annotate(attributes)
        for measurement in measurements:
            match measurement:
                case Count(name, value, tag):
                    metrics.count(name, value, tags, dict([tag]) if tag else {})
                    if not name.startswith("usage."):  # those are attributes
                        spans.add_event(name, {f"agent_task.{tag[0]}": tag[1]} if tag else {})
                case Time(name, began_at, ended_at):
                    metrics.time(name, ended_at - began_at, tags)
                    span_name = name.removesuffix("_duration")
                    spans.add_span(span_name, began_at, ended_at, attributes, self._carrier)
