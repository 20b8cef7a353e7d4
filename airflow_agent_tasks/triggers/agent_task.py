"""The trigger that waits for an agent task."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Collection, Mapping
from functools import cached_property
from inspect import signature
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_agent_tasks.agent_task import AgentTask, StartedTask, TaskState
from airflow_agent_tasks.airflow_compat.resume_timing import read_resume_guard
from airflow_agent_tasks.configuration.options import (
    CALLBACK_POLL_INTERVAL,
    MAX_POLL_INTERVAL,
    MIN_POLL_INTERVAL,
)
from airflow_agent_tasks.configuration.reader import read_number
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.stop import describe_stop
from airflow_agent_tasks.lifecycle.trigger_event import build_event
from airflow_agent_tasks.lifecycle.wait_policy import (
    ENDED_OR_ASKING,
    JITTER,
    MAX_OUTAGE,
    Decision,
    TaskWait,
    Verdict,
)
from airflow_agent_tasks.polling.kill import run_in_background, stop_if_orphaned
from airflow_agent_tasks.polling.poll_sleep import sleep_until_poll
from airflow_agent_tasks.polling.shared_poller import SharedPoller, use_poller
from airflow_agent_tasks.polling.state_xcoms import StateXComs
from airflow_agent_tasks.polling.status_check import StatusChecker
from airflow_agent_tasks.telemetry import spans

_ENDED_OR_ASKING = sorted(state.value for state in ENDED_OR_ASKING)


class AgentTaskTrigger(BaseTrigger):
    """
    Wait until an agent task reaches one of the target states, and yield one event.

    The event contains ids, the state and the exit code, never the result, because Airflow stores events in
    the task instance's row and logs them. The arguments contain no secrets, because Airflow stores them in
    plain text.

    :param conn_id: The Airflow connection; its type names the service. Required.
    :param agent_task_id: The service's id of the agent task. Required.
    :param agent_id: The agent that runs the task, on services where you choose one (Shinzo). Default None:
        the connection's ``agent_id``.
    :param started_at: When the agent task was submitted or got its last reply, in seconds since 1970. Poll
        intervals grow with the time since then. Required.
    :param target_states: The states to wait for. Default: ``completed``, ``failed``, ``cancelled`` and
        ``awaiting_input``.
    :param poll_interval: Seconds between status checks. Default None: the interval grows from 2 to 30
        seconds with the time waited.
    :param not_before: Time of the first status check, in seconds since 1970, set by the worker that checked
        last. If it has passed, for example after a restart, the first check comes at a random time within
        the first interval. Default 0.
    :param deadline: When to give up, in seconds since 1970. Default None: never.
    :param max_outage: Seconds for which the service may fail to answer before the trigger gives up. Default
        600.
    :param notes_progress: Whether to push the agent's status, progress and usage to XCom while waiting. Give
        the status if XCom already has it and the id, or True if that is unknown. Default False. (This is one
        argument so that a triggerer with an earlier version of this package understands it.)
    :param submitted_at: When the agent task was submitted, if ``started_at`` is the time of a reply; the log
        counts from it. Default None: ``started_at``.
    :param budget: The most that the agent task may use, as its service reports it: ``steps``, ``seconds``,
        ``tokens`` or ``cost``, with numbers. Default None: no limit.
    :param is_called_back: True if the service calls Airflow when the agent task changes. Then the intervals
        are 300 to 330 seconds, in case a call is lost. Default False.
    :param on_kill_policy: ``"stop"`` stops the agent task if its Airflow task is marked failed, success or
        skipped while deferred; ``"leave"`` (default) leaves it running.
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
        notes_progress: bool | str = False,
        submitted_at: float | None = None,
        on_kill_policy: str = "leave",
        budget: Mapping[str, float] | None = None,
        is_called_back: bool = False,
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
        self.submitted_at = submitted_at
        self.on_kill_policy = on_kill_policy
        self.budget = budget
        self.is_called_back = is_called_back
        self._is_done = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that recreate this trigger, without the defaults."""
        kwargs = {
            "conn_id": self.conn_id,
            **self.started.to_kwargs(),
            "target_states": self.target_states,
            "poll_interval": self.poll_interval,
            "not_before": self.not_before,
            "deadline": self.deadline,
            "max_outage": self.max_outage,
            "notes_progress": self.notes_progress,
            "submitted_at": self.submitted_at,
            "on_kill_policy": self.on_kill_policy,
            "budget": self.budget,
            "is_called_back": self.is_called_back,
        }
        # Kept short: for each waiting task, Airflow stores them and sends them to a triggerer.
        given = {name: value for name, value in kwargs.items() if value != _DEFAULTS.get(name, ...)}
        return f"{type(self).__module__}.{type(self).__qualname__}", given

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event when the wait is over."""
        spans.annotate({"agent_task.id": self.started.agent_task_id, "agent_task.conn_id": self.conn_id})
        try:
            decision = await self._wait()
        except AgentTaskError as error:
            decision = Decision(Verdict.ERROR, error=error)
        self._is_done = True
        spans.annotate({"agent_task.verdict": decision.verdict.value})
        # Await nothing after the event: the triggerer cancels it.
        event = build_event(
            self.started,
            decision,
            try_number=getattr(self.task_instance, "try_number", None),
            is_pushed=isinstance(self.notes_progress, str),
        )
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Stop the agent task if someone has ended its Airflow task; called by the triggerer."""
        if self._is_done or self.on_kill_policy != "stop" or self.task_instance is None:
            return
        # Airflow cancels on_kill after about a second; the stop continues in the background.
        await asyncio.shield(
            run_in_background(
                stop_if_orphaned(
                    self.conn_id,
                    self.started,
                    self.task_instance,
                    self._xcoms,
                    self.log,
                    is_called_back=self.is_called_back,
                )
            )
        )

    @cached_property
    def _xcoms(self) -> StateXComs | None:
        # dag.test() has neither a task instance nor a supervisor here.
        if not self.notes_progress or self.task_instance is None:
            return None
        noted = self.notes_progress if isinstance(self.notes_progress, str) else None
        return StateXComs(self.task_instance, self.log, noted_status=noted)

    def _find_submission_time(self) -> float | None:
        # A sensor, which has target states of its own, knows only when it began to wait.
        if self.target_states != _ENDED_OR_ASKING:
            return None
        return self.started.started_at if self.submitted_at is None else self.submitted_at

    @property
    def _relies_on_callback(self) -> bool:
        # Nothing wakes a task of dag.test(), which has no task instance here.
        return self.is_called_back and self.task_instance is not None

    def build_wait(self) -> TaskWait:
        """Return the policy of the wait."""
        return TaskWait(
            working_since=self.started.started_at,
            targets=[TaskState(state) for state in self.target_states],
            poll_interval=_draw_callback_interval() if self._relies_on_callback else self.poll_interval,
            min_interval=read_number(MIN_POLL_INTERVAL),
            max_interval=read_number(MAX_POLL_INTERVAL),
            deadline=self.deadline,
            max_outage=self.max_outage,
            budget=self.budget,
        )

    async def _wait(self) -> Decision:
        wait = self.build_wait()
        checker = StatusChecker(
            self.started, wait, self.log, submitted_at=self._find_submission_time(), in_triggerer=True
        )
        # Entered before the first sleep: a new poller would not know about a rejected key or a rate limit.
        async with use_poller(self.conn_id) as poller:
            await sleep_until_poll(self._draw_first_wait(wait, now=time.time()))
            while (decision := await checker.acheck(poller)).waits:
                if self._xcoms:
                    await self._xcoms.push(decision.task)
                seconds = decision.seconds
                # Otherwise, ten thousand sleeping tasks would each hold their last response, and Python's
                # garbage collector, which blocks the event loop, would run twice as often.
                del decision
                await sleep_until_poll(seconds)
            if decision.verdict is Verdict.BUDGET:
                await self._stop(poller, decision.task)
        return decision

    async def _stop(self, poller: SharedPoller, seen: AgentTask | None) -> None:
        """Stop the agent task at its budget at once; a worker that resumes takes seconds to do it."""
        started = self.started
        try:
            task = await poller.stop_task(started.agent_task_id, started.agent_id)
        except AgentTaskError as error:
            self.log.warning("Could not stop agent task %s at its budget: %s", started.agent_task_id, error)
        else:
            poller.metrics.count_stop(task, seen)
            self.log.info(
                "Agent task %s passed its budget and %s", started.agent_task_id, describe_stop(task)
            )

    def _draw_first_wait(self, wait: TaskWait, *, now: float) -> float:
        """Return the seconds until the first check."""
        # dag.test() has no task instance, and no scheduler that could miss the worker's exit.
        guard = read_resume_guard() if self.task_instance else 0.0
        seconds = self.not_before - now
        if self._relies_on_callback:
            seconds *= _draw_factor()
        elif self.is_called_back:
            seconds = 0.0
        if seconds <= 0:
            # Restarted with the triggerer, maybe with thousands of others. The guard is part of the sum:
            # otherwise, all triggers that draw a shorter time would check at the moment when it ends.
            seconds = guard + random.random() * wait.begin(now=now).seconds  # noqa: S311
        if self.deadline is not None:
            seconds = min(seconds, self.deadline - now)
        return max(seconds, guard)


def _draw_callback_interval() -> float:
    return read_number(CALLBACK_POLL_INTERVAL) * _draw_factor()


def _draw_factor() -> float:
    # Longer at random, so that tasks that start together do not stay in step.
    return 1.0 + JITTER * random.random()  # noqa: S311


_DEFAULTS = {
    name: parameter.default for name, parameter in signature(AgentTaskTrigger.__init__).parameters.items()
}
