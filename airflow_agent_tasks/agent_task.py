"""The agent task, as every service, operator, trigger and sensor of this package represents it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from airflow_agent_tasks.text import shorten


class TaskState(str, Enum):
    """The states of an agent task, under the same names for all services."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    AWAITING_INPUT = "awaiting_input"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    #: The service returned an unknown word; the task counts as active.
    UNKNOWN = "unknown"

    def __str__(self) -> str:
        return self.value


#: The XCom key that holds the state.
STATUS_KEY = "status"

#: The XCom keys in which Airflow looks for the links on the page of a task.
TASK_LINK_KEY, QUESTION_LINK_KEY = "_link_AgentTaskLink", "_link_QuestionLink"

#: States that an agent task never leaves.
TERMINAL_STATES = frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED})

#: The states that an agent task may still reach from each state, including that state itself.
REACHABLE_STATES: dict[TaskState, frozenset[TaskState]] = {
    **{state: frozenset(TaskState) - {TaskState.QUEUED} for state in TaskState},
    TaskState.QUEUED: frozenset(TaskState),
    TaskState.UNKNOWN: frozenset(TaskState),
    **{state: frozenset({state}) for state in TERMINAL_STATES},
}


@dataclass(frozen=True)
class Progress:
    """The agent's progress, if the service reports it (Shinzo's ``progress``)."""

    current_step: str | None = None
    steps_completed: int | None = None
    total_steps: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the three fields as plain JSON."""
        return {
            "current_step": self.current_step,
            "steps_completed": self.steps_completed,
            "total_steps": self.total_steps,
        }


@dataclass(frozen=True)
class AgentTask:
    """
    One agent task, as its service last described it.

    :param service: ``lightcone`` or ``shinzo``.
    :param task_id: The service's id of the task.
    :param status: The state, under our own name.
    :param remote_status: The service's own word for the state.
    :param agent_id: The agent that runs it, on services that have agents.
    :param exit_code: 0 for success; None while it runs, and on services without exit codes.
    :param result: What the agent returned, any JSON.
    :param question: What the agent asks, while it awaits input.
    :param progress: Its progress, or None if the service reports none.
    :param usage: What it has used (steps, seconds, tokens, cost, …), or None if the service reports none.
    :param created_at: When it was submitted: the service's own timestamp, unchanged.
    :param started_at: When it began its first step, likewise.
    :param completed_at: When it ended, likewise.
    :param reused: True if a start with a known idempotency key found an earlier task.
    """

    service: str
    task_id: str
    status: TaskState
    remote_status: str = ""
    agent_id: str | None = None
    exit_code: int | None = None
    result: Any = None
    question: str | None = None
    progress: Progress | None = None
    usage: Mapping[str, Any] | None = None
    created_at: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
    reused: bool = False

    @property
    def is_terminal(self) -> bool:
        """True once the agent task has ended, successfully or not."""
        return self.status in TERMINAL_STATES

    @property
    def is_stopped(self) -> bool:
        """True if the agent is no longer working on it: it has ended, or is paused."""
        return self.is_terminal or self.status is TaskState.PAUSED

    def to_json(self) -> dict[str, Any]:
        """Return the task as the plain JSON that operators push to XCom."""
        return {
            "service": self.service,
            "task_id": self.task_id,
            "agent_id": self.agent_id,
            "status": self.status.value,
            "remote_status": self.remote_status,
            "exit_code": self.exit_code,
            "result": self.result,
            "question": self.question,
            "progress": self.progress.to_json() if self.progress else None,
            "usage": dict(self.usage) if self.usage else None,
            "created_at": self.created_at,
            "started_at": self.started_at,
            "completed_at": self.completed_at,
        }

    def __str__(self) -> str:
        parts = [f"status {self.status.value}"]
        if self.remote_status and self.remote_status != self.status.value:
            parts.append(f"the service says {self.remote_status!r}")
        if self.exit_code is not None:
            parts.append(f"exit code {self.exit_code}")
        return f"{self.service} agent task {shorten(self.task_id)} ({', '.join(parts)})"


@dataclass(frozen=True)
class StartedTask:
    """
    The agent task of an Airflow task, as plain values that travel from worker to triggerer and back.

    :param agent_task_id: The service's id of the task.
    :param agent_id: The agent that runs it, on services that have agents.
    :param started_at: When it was submitted, in seconds since 1970.
    """

    agent_task_id: str
    agent_id: str | None
    started_at: float

    def to_kwargs(self) -> dict[str, Any]:
        """Return the values as keyword arguments of a trigger or a resume method."""
        return asdict(self)
