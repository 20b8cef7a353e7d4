"""Stores the simulated tasks of one sandbox, and waits for their next change."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator

from airflow_agent_tasks.sandbox.script import ScriptRules
from airflow_agent_tasks.sandbox.tasks import SimulatedTask


def steady_clock() -> Callable[[], float]:
    """Return a clock in seconds since the epoch that does not jump when the machine's clock is set."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


class TaskStore:
    """
    The simulated tasks, and the scripts of future ones, for use on one event loop.

    :param clock: Returns the current time in seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.now = clock
        self.scripts = ScriptRules()
        self._tasks: dict[str, SimulatedTask] = {}
        self._by_key: dict[str, SimulatedTask] = {}
        self._changed: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def __iter__(self) -> Iterator[SimulatedTask]:
        """Iterate over all tasks in their current state, oldest first."""
        for task in list(self._tasks.values()):
            task.advance(self.now())
            yield task

    def add(self, task: SimulatedTask) -> None:
        """Add a new task."""
        self._tasks[task.task_id] = task
        if task.idempotency_key is not None:
            self._by_key[task.idempotency_key] = task

    def find(self, service: str, task_id: str, agent_id: str | None = None) -> SimulatedTask | None:
        """Return the task in its current state, or None if this service and agent have no such task."""
        task = self.get(task_id)
        return task if task is not None and (task.service, task.agent_id) == (service, agent_id) else None

    def get(self, task_id: str) -> SimulatedTask | None:
        """Return the task of either service in its current state, or None if there is none."""
        task = self._tasks.get(task_id)
        if task is not None:
            task.advance(self.now())
        return task

    def find_by_key(self, idempotency_key: str) -> SimulatedTask | None:
        """Return, in its current state, the task that was started with this key; None if there is none."""
        task = self._by_key.get(idempotency_key)
        if task is not None:
            task.advance(self.now())
        return task

    def announce(self, task: SimulatedTask) -> None:
        """Wake the followers of the task after an action on it."""
        self._changed.pop(task.task_id, asyncio.Event()).set()

    async def follow(self, task: SimulatedTask) -> AsyncIterator[None]:
        """Yield now and after each change of the task, for the last time once it has ended."""
        while True:
            # Before reading the task, so that no action is missed while the caller works.
            changed = self._changed[task.task_id]
            task.advance(self.now())
            was_last, change_at = task.has_ended, task.next_change_at
            yield
            if was_last:
                return
            wait = None if change_at is None else max(change_at - self.now(), 0.0)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(changed.wait(), wait)

    def forget(self) -> None:
        """Cancel all tasks, so that their followers end, and forget them and the scripts."""
        for task in self._tasks.values():
            task.cancel(self.now())
            self.announce(task)
        self._tasks.clear()
        self._by_key.clear()
        self._changed.clear()
        self.scripts.forget()
