"""The event stream of a simulated life."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_agent_tasks.agent_task import TaskState
from airflow_agent_tasks.errors import AgentTaskUnavailableError
from tests.simulated.service import SimulatedService

#: Seconds after which a stream breaks off or falls silent, where it does.
GOOD_SECONDS = 4.0
#: Seconds between two looks at the agent task.
STEP = 1.0


@dataclass
class SimulatedStream:
    """
    The stream of one agent task.

    :param kind: ``whole``, ``breaks``, ``stalls`` or ``no completion``.
    :param task_id: The agent task.
    :param began_at: When it was opened.
    """

    kind: str
    task_id: str
    began_at: float
    last_state: TaskState | None = None
    is_complete: bool = False

    def wait(self, service: SimulatedService, now: float, seconds: float) -> tuple[list[Any] | None, float]:
        """Return the next events, or None at the end, and the time."""
        if now - self.began_at >= GOOD_SECONDS and self.kind == "breaks":
            raise AgentTaskUnavailableError("the stream is cut")
        if now - self.began_at >= GOOD_SECONDS and self.kind == "stalls":
            return [], now + seconds
        now += min(seconds, STEP)
        task = service.tasks[self.task_id]
        seen = task.describe(service.dialect, now)
        if self.is_complete or (seen.is_terminal and self.kind == "no completion"):
            return None, now
        if seen.status is self.last_state:
            return [], now
        self.last_state, self.is_complete = seen.status, seen.is_terminal
        event = {"type": "progress_update", "task_id": self.task_id, "status": seen.status.value}
        if seen.is_terminal:
            end = {"type": "completion", "exit_code": seen.exit_code, "result": seen.result}
            event = {**event, **end}
        return [event], now
