"""Delivers Shinzo's webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from airflow_agent_tasks.agent_task import TaskState
from airflow_agent_tasks.sandbox.store import TaskStore
from airflow_agent_tasks.sandbox.tasks import SimulatedTask

TIMEOUT_SECONDS = 5


class WebhookSender:
    """
    Posts a JSON object whenever a task asks a question or ends, or as its script's ``callbacks`` say.

    No delivery is retried, and each is recorded in the task's ``webhook_deliveries``.

    :param store: Stores the tasks.
    """

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        # asyncio itself keeps only weak references: without this one, a task may vanish before it has posted.
        self._background: set[asyncio.Task[None]] = set()

    async def watch(self, task: SimulatedTask, url: str) -> None:
        """Deliver this task's webhooks to this URL from now on; early ones before this returns."""
        if task.script.callbacks == "early":
            await self._deliver(task, url, task.status)
        elif task.script.callbacks != "never":
            self._start(self._watch(task, url))

    def close(self) -> None:
        """Stop delivering for all tasks watched so far."""
        for work in self._background:
            work.cancel()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        work = asyncio.create_task(coroutine)
        self._background.add(work)
        work.add_done_callback(self._background.discard)

    async def _watch(self, task: SimulatedTask, url: str) -> None:
        callbacks = task.script.callbacks
        held_back: list[str] = []
        async for status in self._follow(task):
            if callbacks == "late":
                self._start(self._deliver_late(task, url, status))
            elif callbacks == "reversed":
                held_back.append(status)
            else:
                for _ in range(2 if callbacks == "twice" else 1):
                    await self._deliver(task, url, status)
        for status in reversed(held_back):
            await self._deliver(task, url, status)

    async def _follow(self, task: SimulatedTask) -> AsyncIterator[str]:
        """Yield the status at each question and at the end."""
        questions_told = 0
        async for _ in self._store.follow(task):
            # While this yields, the task goes on. A question may be answered before this notes it.
            questions_asked, has_ended = task.questions_asked, task.has_ended
            for _ in range(questions_told, questions_asked):
                yield TaskState.AWAITING_INPUT.value
            questions_told = questions_asked
            if has_ended:
                yield task.status

    async def _deliver_late(self, task: SimulatedTask, url: str, status: str) -> None:
        await asyncio.sleep(task.script.callback_seconds)
        await self._deliver(task, url, status)

    async def _deliver(self, task: SimulatedTask, url: str, status: str) -> None:
        body = {"task_id": task.task_id, "agent_id": task.agent_id, "status": status}
        delivery: dict[str, Any] = {"time": self._store.now(), "body": body}
        try:
            delivery["status"] = await _post(url, body)
        except Exception as exc:
            delivery["error"] = f"{type(exc).__name__}: {exc}"
        task.webhook_deliveries.append(delivery)


async def _post(url: str, body: dict[str, Any]) -> int:
    import aiohttp  # imported here, because few tasks need it

    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(url, json=body, allow_redirects=False) as reply,
    ):
        return reply.status
