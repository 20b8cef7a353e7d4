"""The trigger that waits for an agent task."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Collection
from inspect import signature
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_agent_tasks.agent_task import StartedTask, TaskState
from airflow_agent_tasks.airflow_compat.resume_guard import read_resume_guard
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.trigger_event import build_event
from airflow_agent_tasks.lifecycle.wait_policy import ENDED_OR_ASKING, MAX_OUTAGE, Decision, TaskWait, Verdict
from airflow_agent_tasks.polling.kill import keep, stop_if_abandoned
from airflow_agent_tasks.polling.progress_xcom import ProgressNotes
from airflow_agent_tasks.polling.shared_poller import enter_place
from airflow_agent_tasks.polling.status_check import StatusWatch

_ENDED_OR_ASKING = sorted(state.value for state in ENDED_OR_ASKING)


class AgentTaskTrigger(BaseTrigger):
    """
    Wait until an agent task comes into one of the target states, and yield one event.

    The event holds ids, the state and the exit code, never the result: events are stored in the task
    instance's row and logged. The arguments hold no secret: they are stored in plain text.

    :param conn_id: The Airflow connection; its type names the service.
    :param agent_task_id: The service's id of the task.
    :param agent_id: The agent that runs it, where the service has agents.
    :param started_at: When it was submitted, in seconds since 1970; the waits grow with the time since.
    :param target_states: What to wait for; default: the end, or a question.
    :param poll_interval: Fixed seconds between checks; None for the growing wait.
    :param not_before: When to ask for the first time, in seconds since 1970, by the worker that asked last.
        Where that is past, as after a restart, the moment is drawn from the first wait.
    :param deadline: When to give up, in seconds since 1970; None for never.
    :param max_outage: Seconds for which the service may fail to answer before the wait gives up.
    :param notes_progress: Leave the agent's progress in XCom while waiting.
    :param on_kill_policy: ``"stop"`` stops the agent task when its Airflow task is marked failed or success,
        or skipped, while it waits here; ``"leave"`` (default) leaves it running.
    """

    def __init__(
        self,
        *,
        conn_id: str,
        agent_task_id: str,
        agent_id: str | None = None,
        started_at: float,
        target_states: Collection[str] = _ENDED_OR_ASKING,
        poll_interval: float | None = None,
        not_before: float = 0.0,
        deadline: float | None = None,
        max_outage: float = MAX_OUTAGE,
        notes_progress: bool = False,
        on_kill_policy: str = "leave",
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id = conn_id
        self.started = StartedTask(agent_task_id, agent_id, started_at)
        self.target_states = sorted(TaskState(state).value for state in target_states)
        self.poll_interval = poll_interval
        self.not_before = not_before
        self.deadline = deadline
        self.max_outage = max_outage
        self.notes_progress = notes_progress
        self.on_kill_policy = on_kill_policy
        self._is_done = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that make this trigger again, without those left out."""
        kwargs = {
            "conn_id": self.conn_id,
            **self.started.to_kwargs(),
            "target_states": self.target_states,
            "poll_interval": self.poll_interval,
            "not_before": self.not_before,
            "deadline": self.deadline,
            "max_outage": self.max_outage,
            "notes_progress": self.notes_progress,
            "on_kill_policy": self.on_kill_policy,
        }
        # Stored and sent to a triggerer for each task that waits.
        given = {name: value for name, value in kwargs.items() if value != _DEFAULTS.get(name, ...)}
        return f"{type(self).__module__}.{type(self).__qualname__}", given

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event when the wait is over."""
        try:
            decision = await self._wait()
        except AgentTaskError as error:
            decision = Decision(Verdict.ERROR, error=error)
        self._is_done = True
        # Nothing may follow the event: the triggerer cancels what is still awaited then.
        yield TriggerEvent(build_event(self.started, decision))  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Stop the agent task if the Airflow task was ended by somebody; called by the triggerer."""
        if self._is_done or self.on_kill_policy != "stop" or self.task_instance is None:
            return
        # Airflow cancels what on_kill awaits after about a second: the stop goes on without it.
        await asyncio.shield(
            keep(stop_if_abandoned(self.conn_id, self.started, self.task_instance, self.log))
        )

    async def _wait(self) -> Decision:
        wait = TaskWait(
            started_at=self.started.started_at,
            targets=[TaskState(state) for state in self.target_states],
            poll_interval=self.poll_interval,
            deadline=self.deadline,
            max_outage=self.max_outage,
        )
        watch = StatusWatch(self.started, wait, self.log)
        # dag.test() has neither a task instance nor a supervisor here.
        notes = (
            ProgressNotes(self.task_instance, self.log)
            if self.notes_progress and self.task_instance
            else None
        )
        # Entered before the first wait: who comes to an empty place knows of no refused key and no limit.
        async with enter_place(self.conn_id) as place:
            await asyncio.sleep(self._draw_first_wait(wait, now=time.time()))
            while (decision := await watch.acheck(place)).waits:
                if notes:
                    await notes.take(decision.task)
                seconds = decision.seconds
                # Else ten thousand sleeping tasks keep the reply that they saw last, and Python's garbage
                # collection, for which the event loop stands still, comes twice as often.
                del decision
                await asyncio.sleep(seconds)
        return decision

    def _draw_first_wait(self, wait: TaskWait, *, now: float) -> float:
        """Return the seconds until the first check."""
        # In dag.test() there is no task instance, and no scheduler to mind.
        guard = read_resume_guard() if self.task_instance else 0.0
        seconds = self.not_before - now
        if seconds <= 0:
            # Restarted with the triggerer, maybe with thousands of others. Without the guard in the sum, all
            # whose draw is shorter would check in the same moment, at its end.
            seconds = guard + random.random() * wait.begin(now=now).seconds  # noqa: S311
        if self.deadline is not None:
            seconds = min(seconds, self.deadline - now)
        return max(seconds, guard)


_DEFAULTS = {
    name: parameter.default for name, parameter in signature(AgentTaskTrigger.__init__).parameters.items()
}
