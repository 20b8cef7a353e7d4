"""Delivers Shinzo's webhooks."""

from __future__ import annotations

import asyncio
from typing import Any

from airflow_agent_tasks.agent_task import TaskState
from airflow_agent_tasks.sandbox.store import TaskStore
from airflow_agent_tasks.sandbox.tasks import SimulatedTask

TIMEOUT_SECONDS = 5


class WebhookSender:
    """
    Posts a JSON object whenever a task asks a question or ends.

    Each delivery is attempted once, and recorded in the task's ``webhook_deliveries``.

    :param store: Stores the tasks.
    """

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        # asyncio itself keeps only weak references: without this one, a task may vanish before it has posted.
        self._watchers: set[asyncio.Task[None]] = set()

    def watch(self, task: SimulatedTask, url: str) -> None:
        """Deliver this task's webhooks to this URL from now on."""
        watcher = asyncio.create_task(self._watch(task, url))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    def close(self) -> None:
        """Stop delivering for all tasks watched so far."""
        for watcher in self._watchers:
            watcher.cancel()

    async def _watch(self, task: SimulatedTask, url: str) -> None:
        questions_sent = 0
        async for _ in self._store.follow(task):
            has_new_question = task.question is not None and task.questions_asked > questions_sent
            questions_sent = task.questions_asked
            if has_new_question or task.has_ended:
                status = task.status if task.has_ended else TaskState.AWAITING_INPUT.value
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
