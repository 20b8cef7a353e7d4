"""All simulated tasks of one sandbox, and the waiting for their next change."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator

from airflow_agent_tasks.sandbox.tasks import SimulatedTask


def steady_clock() -> Callable[[], float]:
    """Return a clock that tells seconds since the epoch and never jumps when the machine's clock is set."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


class TaskStore:
    """
    The simulated tasks, for use within one event loop.

    :param clock: Returns the moment, in seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.now = clock
        self._tasks: dict[str, SimulatedTask] = {}
        self._by_key: dict[str, SimulatedTask] = {}
        self._acted: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def __iter__(self) -> Iterator[SimulatedTask]:
        """Go over all tasks as they are now, in the order they were started."""
        for task in list(self._tasks.values()):
            task.advance(self.now())
            yield task

    def add(self, task: SimulatedTask) -> None:
        """Keep a new task."""
        self._tasks[task.task_id] = task
        if task.idempotency_key is not None:
            self._by_key[task.idempotency_key] = task

    def find(self, service: str, task_id: str, agent_id: str | None = None) -> SimulatedTask | None:
        """Return the task as it is now, or None; a task of another service or agent is not found."""
        task = self._tasks.get(task_id)
        if task is None or (task.service, task.agent_id) != (service, agent_id):
            return None
        task.advance(self.now())
        return task

    def find_by_key(self, idempotency_key: str) -> SimulatedTask | None:
        """Return the task that was started with this key, as it is now, or None."""
        task = self._by_key.get(idempotency_key)
        if task is not None:
            task.advance(self.now())
        return task

    def announce(self, task: SimulatedTask) -> None:
        """Wake those who follow the task, after something was done to it."""
        self._acted.pop(task.task_id, asyncio.Event()).set()

    async def follow(self, task: SimulatedTask) -> AsyncIterator[None]:
        """Yield now and after each change of the task, for the last time when it has ended."""
        while True:
            # Taken before the look at the task: what is done to it while the caller works is not missed.
            acted = self._acted[task.task_id]
            task.advance(self.now())
            was_last, change_at = task.has_ended, task.next_change_at
            yield
            if was_last:
                return
            wait = None if change_at is None else max(change_at - self.now(), 0.0)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(acted.wait(), wait)

    def forget(self) -> None:
        """Cancel all tasks, so that nobody follows them for ever, and forget them."""
        for task in self._tasks.values():
            task.cancel(self.now())
            self.announce(task)
        self._tasks.clear()
        self._by_key.clear()
        self._acted.clear()
