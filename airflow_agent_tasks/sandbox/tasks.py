"""
One simulated agent task, as pure arithmetic: its state follows from the script, the actions on it and the
current time. Nothing here reads a clock, waits or runs in the background.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

from airflow_agent_tasks.agent_task import TaskState
from airflow_agent_tasks.sandbox.script import Script
from airflow_agent_tasks.sandbox.usage import scale_usage

#: Compensates for the rounding of ``n * step_seconds / step_seconds``, which would hide a completed step.
_ROUNDING = 1e-6

STOPPED_EXIT_CODE = 1


@dataclass(frozen=True)
class _Stop:
    """The next point at which the task stops: a question, or the end."""

    step: int
    at: float
    is_question: bool


@dataclass
class SimulatedTask:
    """
    A task whose own clock runs while it is queued or running, but not while it is paused or awaits input.

    All times are in seconds since the epoch. The properties describe the state as of the last ``advance``.

    :param service: ``lightcone`` or ``shinzo``.
    :param script: The behaviour of the task.
    :param request: The body that started it.
    :param created_at: When it was started.
    :param agent_id: The agent that runs it, on Shinzo.
    :param idempotency_key: The key that it was started with, on Lightcone.
    :param max_steps: It fails after this many steps if the script has more; None (default) for no limit.
    :param deadline: When it is stopped, even if paused; None (default) for never.
    :param status_at_deadline: The final status if the deadline stops it; default: cancelled.
    """

    service: str
    script: Script
    request: dict[str, Any]
    created_at: float
    agent_id: str | None = None
    idempotency_key: str | None = None
    max_steps: int | None = None
    deadline: float | None = None
    status_at_deadline: TaskState = TaskState.CANCELLED

    task_id: str = field(default_factory=lambda: f"tsk_{secrets.token_hex(8)}", init=False)
    times_started: int = field(default=1, init=False)
    times_reused: int = field(default=0, init=False)
    messages: list[dict[str, Any]] = field(default_factory=list, init=False)
    webhook_deliveries: list[dict[str, Any]] = field(default_factory=list, init=False)
    started_at: float | None = field(default=None, init=False)
    ended_at: float | None = field(default=None, init=False)
    exit_code: int | None = field(default=None, init=False)
    is_paused: bool = field(default=False, init=False)
    ended_by_itself: bool = field(default=False, init=False)

    _final_status: str = field(default="", init=False)
    _elapsed: float = field(default=0.0, init=False)
    _as_of: float = field(default=0.0, init=False)
    _answered: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._as_of = self.created_at
        self.advance(self.created_at)

    @property
    def total_steps(self) -> int:
        """The number of steps in the script."""
        return self.script.steps

    @property
    def has_ended(self) -> bool:
        """Whether the state is final."""
        return self.ended_at is not None

    @property
    def status(self) -> str:
        """The service's word for the state."""
        if self.has_ended:
            return self._final_status
        if self.is_paused:
            return TaskState.PAUSED.value
        if self.started_at is None:
            return TaskState.QUEUED.value
        return TaskState.AWAITING_INPUT.value if self._is_at_question else TaskState.RUNNING.value

    @property
    def question(self) -> str | None:
        """The agent's question, while it awaits input."""
        if self.status != TaskState.AWAITING_INPUT.value:
            return None
        return self.script.ask[self._answered]

    @property
    def questions_asked(self) -> int:
        """The number of questions asked so far, including the open one, also if the end left it open."""
        return self._answered + self._has_reached_question

    @property
    def steps_completed(self) -> int:
        """The number of completed steps."""
        stop = self._next_stop()
        if self._elapsed >= stop.at:
            return stop.step
        worked = self._elapsed - self.script.queued_seconds
        return int(worked / self.script.step_seconds + _ROUNDING) if worked > 0 else 0

    @property
    def current_step(self) -> str:
        """A description of the current step."""
        return self.title_of_step(self.steps_completed)

    def title_of_step(self, completed: int) -> str:
        """Return a description of the step after this many completed ones."""
        step = min(completed, self.total_steps - 1)
        return next(iter(self.script.titles[step:]), f"Step {step + 1} of {self.total_steps}")

    def share_of_step(self, completed: int, count: int) -> slice:
        """Return which of ``count`` things belong to the step after this many completed ones."""
        return slice(count * completed // self.total_steps, count * (completed + 1) // self.total_steps)

    def report_usage(self, completed: int | None = None) -> dict[str, Any]:
        """
        Return ``{"usage": …}``, or nothing if the script has no usage.

        :param completed: The number of completed steps; default: as of now.
        """
        if self.script.usage is None:
            return {}
        done = self.steps_completed if completed is None else completed
        return {"usage": scale_usage(self.script.usage, done, self.total_steps)}

    @property
    def result(self) -> Any:
        """The task's result; None if it was stopped or still runs."""
        return self.script.final_result if self.ended_by_itself else None

    @property
    def next_change_at(self) -> float | None:
        """The time of the next change without an action (a step counts), or None."""
        if self.has_ended:
            return None
        if self.is_paused or self._is_at_question:
            return self.deadline
        if self.started_at is None:
            target = self.script.queued_seconds
        else:
            next_step = self.script.queued_seconds + (self.steps_completed + 1) * self.script.step_seconds
            target = min(next_step, self._next_stop().at)
        change_at = self._as_of + target - self._elapsed
        return change_at if self.deadline is None else min(change_at, self.deadline)

    def advance(self, now: float) -> None:
        """Advance the task to ``now``."""
        if self.has_ended:
            return
        until = now if self.deadline is None else min(now, self.deadline)
        if not self.is_paused:
            self._work_until(until)
        self._as_of = max(self._as_of, until)
        if not self.has_ended and self.deadline is not None and now >= self.deadline:
            self._end(self.deadline, self.status_at_deadline.value, STOPPED_EXIT_CODE)

    def pause(self, now: float) -> None:
        """Stop the task's clock."""
        self.advance(now)
        self.is_paused = True

    def resume(self, now: float) -> None:
        """Restart the task's clock where it stopped."""
        self.advance(now)
        self.is_paused = False

    def add_message(self, text: str, now: float) -> None:
        """Record a message, which replies to the open question if there is one."""
        self.advance(now)
        self.messages.append({"time": now, "message": text})
        if self._is_at_question:
            self._answered += 1
            self.advance(now)

    def cancel(self, now: float) -> None:
        """Cancel the task, unless it has ended."""
        self.advance(now)
        if not self.has_ended:
            self._end(now, TaskState.CANCELLED.value, STOPPED_EXIT_CODE)

    def _work_until(self, until: float) -> None:
        before = self._elapsed
        stop = self._next_stop()
        self._elapsed = min(before + max(until - self._as_of, 0.0), stop.at)
        if self.started_at is None and self._elapsed >= self.script.queued_seconds:
            self.started_at = self._as_of + self.script.queued_seconds - before
        if self._elapsed < stop.at or stop.is_question:
            return
        ended_at = self._as_of + stop.at - before
        if stop.step < self.total_steps:
            self._end(ended_at, TaskState.FAILED.value, STOPPED_EXIT_CODE)
        else:
            self.ended_by_itself = True
            self._end(ended_at, self.script.final_status, self.script.final_exit_code)

    def _end(self, now: float, status: str, exit_code: int) -> None:
        self.ended_at, self._final_status, self.exit_code = now, status, exit_code

    def _next_stop(self) -> _Stop:
        last = self.total_steps if self.max_steps is None else min(self.max_steps, self.total_steps)
        questions = len(self.script.ask)
        step = self.total_steps * (self._answered + 1) // (questions + 1)
        is_question = self._answered < questions and step < last
        step = step if is_question else last
        return _Stop(step, self.script.queued_seconds + step * self.script.step_seconds, is_question)

    @property
    def _is_at_question(self) -> bool:
        return self._has_reached_question and not self.has_ended

    @property
    def _has_reached_question(self) -> bool:
        stop = self._next_stop()
        return stop.is_question and self._elapsed >= stop.at
