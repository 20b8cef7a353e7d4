"""The service of a simulated life, and its agent tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_agent_tasks.agent_task import AgentTask, Progress, StartedTask, TaskState
from airflow_agent_tasks.errors import (
    AgentTaskNotFoundError,
    AgentTaskRejectedError,
    AgentTaskUnavailableError,
    AgentTaskUncertainError,
)
from airflow_agent_tasks.services.base import Capability, Dialect
from tests.simulated.form import answer_to
from tests.simulated.script import Script

BEGIN = 1_700_000_000.0
#: Seconds until the service shows that a reply arrived.
SHOWN_LATE = 3.0
ACTIVE = {TaskState.QUEUED, TaskState.RUNNING, TaskState.AWAITING_INPUT}


@dataclass
class SimulatedTask:
    """One agent task on the service."""

    task_id: str
    key: str
    created_at: float
    end: TaskState
    exit_code: int | None
    work: float
    questions: tuple[str, ...]
    callback_url: str | None = None
    heard: list[tuple[float, int, str]] = field(default_factory=list)
    stopped: TaskState | None = None

    def locate(self, now: float) -> tuple[int, TaskState]:
        """Return how many replies show by now, and the state."""
        shown = sum(at + SHOWN_LATE <= now for at, _, _ in self.heard)
        if self.stopped:
            return shown, self.stopped
        if now < self.list_beginnings()[shown] + self.work:
            return shown, TaskState.RUNNING
        return shown, TaskState.AWAITING_INPUT if shown < len(self.questions) else self.end

    def list_beginnings(self) -> list[float]:
        """Return when it began to work: at its start, and after each reply."""
        return [self.created_at, *(at + SHOWN_LATE for at, _, _ in self.heard)]

    def describe(self, service: Dialect, now: float, *, reused: bool = False) -> AgentTask:
        shown, state = self.locate(now)
        is_over = state in (TaskState.COMPLETED, TaskState.FAILED)
        return AgentTask(
            service.service,
            self.task_id,
            state,
            agent_id="agent" if service.service == "shinzo" else None,
            exit_code=self.exit_code if is_over else None,
            result=f"result of {self.task_id}" if state is TaskState.COMPLETED else None,
            question=self.questions[shown] if state is TaskState.AWAITING_INPUT else None,
            progress=Progress("working", steps_completed=2 * shown),
            reused=reused,
        )


class SimulatedService:
    """
    The service.

    :param script: What happens in the life.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.dialect = script.service
        #: True if a start that is sent again with the same key finds the agent task of the first.
        self.has_keys = Capability.IDEMPOTENT_START in script.service.capabilities
        self.tasks: dict[str, SimulatedTask] = {}
        #: What its agent tasks are like.
        self.kind = SimulatedTask
        self.lost_answers = list(script.lost_answers)
        #: The ids that the submission record has ever named; others the service alone knows.
        self.recorded: set[str] = set()
        #: Agent tasks that were started while another was active.
        self.doubled: list[str] = []
        #: How many status checks it answered or failed to answer.
        self.checks = 0

    def fork(self) -> SimulatedService:
        """Return a service of its own that is as this one is now."""
        other = SimulatedService(self.script)
        other.tasks = {task_id: replace(task, heard=[*task.heard]) for task_id, task in self.tasks.items()}
        other.lost_answers, other.doubled = [*self.lost_answers], [*self.doubled]
        other.recorded, other.kind, other.checks = {*self.recorded}, self.kind, self.checks
        return other

    def start(self, fields: Mapping[str, Any], now: float) -> AgentTask:
        """Start an agent task, or find the one that has the key."""
        key = fields.get("idempotency_key") or fields["metadata"]["idempotency_key"]
        known = [task for task in self.tasks.values() if task.key == key]
        task = known[0] if known and self.has_keys else self._create(key, fields.get("webhook_url"), now)
        if "start" in self.lost_answers:
            self.lost_answers.remove("start")
            raise AgentTaskUncertainError("the answer to the start was lost")
        return task.describe(self.dialect, now, reused=bool(known))

    def _create(self, key: str, callback_url: str | None, now: float) -> SimulatedTask:
        ends, number = self.script.ends, len(self.tasks)
        # A start that was never recorded is known to the service alone, which finds it by its key or never.
        if any(self.has_keys or task.task_id in self.recorded for task in self.list_active(now)):
            self.doubled.append(f"tsk_{number + 1}")
        end = ends[min(number, len(ends) - 1)]
        task = self.kind(
            f"tsk_{number + 1}",
            key,
            now,
            end,
            self.script.exit_code,
            self.script.work,
            self.script.questions,
            callback_url,
        )
        self.tasks[task.task_id] = task
        return task

    def get_task(self, started: StartedTask, now: float) -> AgentTask:
        """Return an agent task."""
        self.checks += 1
        begin, end = self.script.outage
        if begin <= now - BEGIN < end:
            raise AgentTaskUnavailableError("the service is down")
        if started.agent_task_id not in self.tasks:
            raise AgentTaskNotFoundError("unknown", status=404)
        return self.tasks[started.agent_task_id].describe(self.dialect, now)

    def send(self, started: StartedTask, text: str, now: float) -> None:
        """Let an agent task hear a message."""
        task = self.tasks[started.agent_task_id]
        shown, state = task.locate(now)
        if state is not TaskState.AWAITING_INPUT:
            raise AgentTaskRejectedError("it awaits no input", status=409)
        task.heard.append((now, shown, text))
        if "message" in self.lost_answers:
            self.lost_answers.remove("message")
            raise AgentTaskUncertainError("the answer to the message was lost")

    def reply(self, task_id: str, moment: float, *, now: float) -> None:
        """Let someone reply on the service itself at a later moment, if an agent task still asks then."""
        task = self.tasks[task_id]
        shown, state = task.locate(moment)
        if state is TaskState.AWAITING_INPUT and not any(at > now for at, _, _ in task.heard):
            task.heard.append((moment, shown, answer_to(task.questions[shown])))

    def stop(self, task_id: str, now: float) -> AgentTask:
        """Cancel or pause an agent task."""
        task = self.tasks[task_id]
        _, state = task.locate(now)
        if state in ACTIVE:
            can_cancel = Capability.CANCEL in self.dialect.capabilities
            task.stopped = TaskState.CANCELLED if can_cancel else TaskState.PAUSED
        return task.describe(self.dialect, now)

    def list_active(self, now: float) -> list[SimulatedTask]:
        """Return the agent tasks that run or will."""
        return [task for task in self.tasks.values() if task.locate(now)[1] in ACTIVE]
