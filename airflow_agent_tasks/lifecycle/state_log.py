"""What the task's log says about the status checks: one line per change, at a pace that everyone can bear."""

from __future__ import annotations

from typing import NamedTuple

from airflow_agent_tasks.agent_task import TERMINAL_STATES, AgentTask, TaskState
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.pace import Pace
from airflow_agent_tasks.text import shorten

#: The states whose line shows no step: a final one, and an unknown one, where the service's word counts.
_WITHOUT_STEP = TERMINAL_STATES | {TaskState.UNKNOWN}


class LogLine(NamedTuple):
    """A line for the task's log: its level, as the name of a logger's method, and its text."""

    level: str
    text: str


class StateLog:
    """
    Decides after each status check whether the log gets a line.

    The log gets a line when the agent's state or step has changed, or when a check fails. A change that comes
    too soon after the last line is logged by a later check, unless the next change has replaced it.

    :param pace: The pace of the lines. Default: one line per ``WRITE_INTERVAL``.
    :param in_triggerer: True if the log belongs to a triggerer, where a change of state has to wait its turn
        and the worker has already logged the first state. Default False.
    """

    def __init__(self, pace: Pace | None = None, *, in_triggerer: bool = False) -> None:
        self._pace = pace or Pace()
        self._in_triggerer = in_triggerer
        self._is_first = True
        self._logged: str | None = None
        #: The state in ``_logged``, if it is one: comparing it is cheaper than building its text every time.
        self._logged_state: tuple[object, ...] | None = None
        #: The state in the last line; None if that told a failure.
        self._state: TaskState | None = None

    def on_state(
        self,
        task: AgentTask,
        *,
        now: float,
        submitted_at: float | None = None,
        is_last: bool = False,
    ) -> LogLine | None:
        """
        Return the line about a successful check, or None.

        :param now: The time in seconds since 1970.
        :param submitted_at: When the agent task was submitted, likewise; a line about a step tells the time
            since then. Default None: unknown.
        :param is_last: True if this state ends the wait: a change is logged in any case. Default False.
        """
        state = (task.service, task.task_id, task.status, task.remote_status, task.exit_code, task.progress)
        if state == self._logged_state:
            return None
        step = _describe_step(task)
        news = _describe_state(task, step)
        if self._is_first and self._in_triggerer and self._logged is None and not step:
            self._logged, self._logged_state = news, state
        self._is_first = False
        is_urgent = is_last or (not self._in_triggerer and task.status is not self._state)
        if not self._take(news, now=now, at_once=is_urgent):
            return None
        self._state, self._logged_state = task.status, state
        if step and submitted_at is not None:
            news = f"{news} ({_describe_duration(now - submitted_at)} since the start)"
        return LogLine("warning" if task.status is TaskState.UNKNOWN else "info", news)

    def on_failure(self, error: AgentTaskError, *, now: float) -> LogLine | None:
        """Return the line about a failed check, or None; ``now`` is as for ``on_state``."""
        news = f"Could not get the state: {error}"
        is_urgent = not self._in_triggerer and self._state is not None
        if not self._take(news, now=now, at_once=is_urgent):
            return None
        self._state = self._logged_state = None
        return LogLine("warning", news)

    def _take(self, news: str, *, now: float, at_once: bool) -> bool:
        if news == self._logged or not self._pace.take(now=now, at_once=at_once):
            return False
        self._logged = news
        return True


def _describe_state(task: AgentTask, step: str) -> str:
    if not step:
        return f"Seen: {task}"
    return shorten(f"{task.status.value.capitalize().replace('_', ' ')}{step}")


def _describe_step(task: AgentTask) -> str:
    """Return the step as the end of a sentence about the state; empty if the service reports none."""
    progress = task.progress
    if progress is None or task.status in _WITHOUT_STEP:
        return ""
    number = ""
    if progress.steps_completed is not None:
        total = "" if progress.total_steps is None else f" of {progress.total_steps}"
        number = f", step {progress.steps_completed}{total}"
    name = shorten(progress.current_step or "")
    return f"{number}: {name}" if name else number


def _describe_duration(seconds: float) -> str:
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
