"""The triggerer of a simulated life."""

from __future__ import annotations

from airflow_agent_tasks.agent_task import StartedTask
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle import commands as cmd
from airflow_agent_tasks.lifecycle.execution import TaskSettings
from airflow_agent_tasks.lifecycle.wait_policy import Decision, TaskWait
from tests.simulated.service import SimulatedService
from tests.task_settings import CALLBACK_POLL_INTERVAL

#: No trigger checks more often: one that goes on for ever is a fault.
MOST_CHECKS = 600


class SimulatedTrigger:
    """
    Checks an agent task until the wait is over.

    :param service: The service.
    :param settings: What the DAG author chose.
    :param command: The deferral.
    """

    def __init__(self, service: SimulatedService, settings: TaskSettings, command: cmd.Defer) -> None:
        self.service = service
        self.command = command
        self.checks = 0
        self.wait = TaskWait(
            working_since=command.working_since,
            poll_interval=CALLBACK_POLL_INTERVAL if command.is_called_back else settings.poll_interval,
            deadline=command.deadline,
            max_outage=settings.max_outage,
            budget=settings.budget,
            draw=lambda: 0.0,
        )

    def run(self, now: float, until: float) -> tuple[Decision | None, float]:
        """Return the decision that ends the wait and the time, or None if something else ends it before."""
        deadline = self.command.deadline
        now = max(
            now, self.command.not_before if deadline is None else min(self.command.not_before, deadline)
        )
        while now < until:
            self.checks += 1
            assert self.checks < MOST_CHECKS, "the trigger waits for ever"
            decision = self._check(self.command.started, now)
            if not decision.waits:
                return decision, now
            now += decision.seconds
        return None, until

    def _check(self, started: StartedTask, now: float) -> Decision:
        try:
            task = self.service.get_task(started, now)
        except AgentTaskError as error:
            return self.wait.on_error(error, now=now)
        return self.wait.on_state(task, now=now)
