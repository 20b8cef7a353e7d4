"""
The OpenLineage facet of an agent task, for deployments with ``apache-airflow-providers-openlineage``.

That provider calls the methods of ``ReportsLineage`` on a worker, and it alone does: without it, nothing here
imports OpenLineage. It adds the datasets of the operator's ``inlets`` and ``outlets`` itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.documentation import SITE
from airflow_agent_tasks.lifecycle.measurements import Measurement, Time, read_usage_numbers
from airflow_agent_tasks.text import shorten

#: The facet's key: OpenLineage wants the project as a prefix.
FACET = "agentTasks_agentTask"
#: The facet's schema, which never changes under this address: a change gets a version of its own.
SCHEMA = f"{SITE}reference/schemas/1-0-0/AgentTasksAgentTaskRunFacet.json"
PRODUCER = "https://github.com/airflow-agent-tasks/airflow-agent-tasks"


@dataclass(frozen=True)
class LineageFacts:
    """
    What the facet says.

    :param task: The agent task as last seen.
    :param conn_id: The Airflow connection.
    :param measurements: What was measured once it had ended.
    """

    task: AgentTask
    conn_id: str
    measurements: Sequence[Measurement]

    def list_fields(self) -> dict[str, Any]:
        """Return the fields of the facet; the service's values are bounded."""
        task = self.task
        durations: dict[str, float] = defaultdict(float)
        for period in self.measurements:
            if isinstance(period, Time):
                durations[period.name.removesuffix("_duration")] += period.ended_at - period.began_at
        return {
            "service": task.service,
            "agentTaskId": shorten(task.task_id),
            "agentId": shorten(task.agent_id) if task.agent_id else None,
            "connId": self.conn_id,
            "state": task.status.value,
            "exitCode": task.exit_code,
            "usage": read_usage_numbers(task),
            "queuedSeconds": durations.get("queued"),
            "runningSeconds": durations.get("running"),
            "awaitingInputSeconds": durations.get("awaiting_input"),
        }


class ReportsLineage(ABC):
    """Describes the agent task to OpenLineage."""

    @abstractmethod
    def describe_lineage(self) -> LineageFacts | None:
        """Return what the facet says, or None if no agent task is known."""

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return the run facet of the agent task; called by the OpenLineage provider."""
        from airflow.providers.openlineage.extractors import OperatorLineage

        facts = self.describe_lineage()
        facets = {FACET: _define_facet()(**facts.list_fields(), producer=PRODUCER)} if facts else {}
        return OperatorLineage(run_facets=facets)

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> Any:
        """Return the run facet of the agent task; called by the OpenLineage provider."""
        return self.get_openlineage_facets_on_complete(task_instance)


@cache
def _define_facet() -> Any:
    import attrs
    from openlineage.client.facet_v2 import RunFacet

    @attrs.define
    class AgentTasksAgentTaskRunFacet(RunFacet):  # type: ignore[misc, unused-ignore]
        service: str
        agentTaskId: str  # noqa: N815
        agentId: str | None  # noqa: N815
        connId: str  # noqa: N815
        state: str
        exitCode: int | None  # noqa: N815
        usage: dict[str, float]
        queuedSeconds: float | None  # noqa: N815
        runningSeconds: float | None  # noqa: N815
        awaitingInputSeconds: float | None  # noqa: N815

        @staticmethod
        def _get_schema() -> str:
            return SCHEMA

    return AgentTasksAgentTaskRunFacet
