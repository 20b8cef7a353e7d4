"""Runs work once for all requests that wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class SharedTasks(Generic[Key, Result]):
    """
    Runs one asyncio task per key for all its waiters, and cancels it when the last of them is cancelled.

    :param run: The work for a key.
    """

    def __init__(self, run: Callable[[Key], Coroutine[Any, Any, Result]]) -> None:
        self._run = run
        self._tasks: dict[Key, asyncio.Task[Result]] = {}
        self._waiters: dict[asyncio.Task[Result], int] = {}

    async def wait_for(self, key: Key) -> Result:
        """Return the result of the task that runs for this key; start it if none does."""
        task = self._tasks.get(key)
        if task is None or task.done():  # The result of a finished task may be out of date.
            task = self._tasks[key] = asyncio.create_task(self._run(key))
            self._waiters[task] = 0
        self._waiters[task] += 1
        try:
            return await asyncio.shield(task)
        finally:
            self._waiters[task] -= 1
            if not self._waiters[task]:
                self._end(key, task)

    def _end(self, key: Key, task: asyncio.Task[Result]) -> None:
        del self._waiters[task]
        task.cancel()  # Has no effect on a finished task.
        if self._tasks.get(key) is task:
            del self._tasks[key]
