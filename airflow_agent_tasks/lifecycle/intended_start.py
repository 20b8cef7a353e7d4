"""The start that a try would make, and what it knows about the starts of earlier tries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_agent_tasks.agent_task import StartedTask
from airflow_agent_tasks.errors import AgentTaskError, AgentTaskNotFoundError
from airflow_agent_tasks.lifecycle.execution import Execution
from airflow_agent_tasks.lifecycle.submission_record import RECORD_KEY, Submission
from airflow_agent_tasks.services.base import Capability, Dialect


@dataclass(frozen=True)
class IntendedStart:
    """
    The start that this try would make.

    :param execution: The execution.
    :param service: The dialect of the service.
    :param fields: The start fields, with rendered texts converted.
    """

    execution: Execution
    service: Dialect
    fields: Mapping[str, Any]

    @property
    def is_idempotent(self) -> bool:
        """True if a start that is sent again with the same key finds the agent task of the first."""
        return Capability.IDEMPOTENT_START in self.service.capabilities

    @property
    def resubmits(self) -> bool:
        """True if the user accepts that an uncertain start is sent again."""
        return self.execution.settings.on_uncertain_submit == "resubmit"

    @property
    def on_kill_policy(self) -> str:
        """What happens to the agent task when someone ends its Airflow task."""
        # Without wait_for_completion, the agent task is meant to outlive its Airflow task.
        settings = self.execution.settings
        return settings.on_kill_policy if settings.wait_for_completion else "leave"

    def build_submission(self, key: str) -> Submission:
        """Return the record of this start before it is sent, with its idempotency key."""
        task_try, conn_id = self.execution.task_try, self.execution.settings.conn_id
        policy = self.on_kill_policy
        return Submission(
            key,
            task_try.try_number,
            task_try.max_tries,
            conn_id=conn_id,
            on_kill_policy=policy,
            service=self.service.service,
        )

    def locate(self, found: Submission) -> StartedTask | None:
        """Return the agent task of a record; if the record no longer names its agent, use this try's."""
        started = found.started
        return (
            replace(started, agent_id=self.execution.settings.agent_id)
            if started and self._is_lost(found)
            else started
        )

    def check_gone(self, found: Submission, error: AgentTaskNotFoundError) -> None:
        """Raise a final AgentTaskError if the agent task may still exist under an agent that is unknown."""
        if self._is_lost(found):
            failure = AgentTaskError(
                f"The record of agent task {found.task_id} no longer names its agent, so the agent task may "
                f"still be running. {error} Search {self.service.title} for it, and stop it. Then delete the "
                f"key {RECORD_KEY!r} in Airflow's task state store, and clear the task."
            )
            failure.is_final = True
            raise failure from None

    def _is_lost(self, found: Submission) -> bool:
        return found.agent_id is None and Capability.AGENT_CHOICE in self.service.capabilities

    def describe_search(self, submission: Submission) -> str:
        """Return how to find the agent task of a start on the service, as a sentence."""
        return (
            f"Search {self.service.title} for a task with the metadata idempotency_key = "
            f"{submission.idempotency_key!r}, and stop it if it is running."
        )
