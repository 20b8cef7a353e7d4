"""Has the API server share the free slots of a connection, for all tasks of a triggerer that wait for one."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from weakref import WeakKeyDictionary

from airflow_agent_tasks.airflow_compat.api_server import order_plugin
from airflow_agent_tasks.airflow_compat.slot_orders import NO_LIMIT, PATH
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.lifecycle.slots import SLOT_POLL
from airflow_agent_tasks.lifecycle.wait_policy import MAX_OUTAGE
from airflow_agent_tasks.polling.connection_cache import CachedHook

log = logging.getLogger(__name__)


async def wait_while_limited(conn_id: str) -> None:
    """
    Return once a connection is unusable, or unreadable for ten minutes.

    Until then, as long as anyone waits here, the plugin is asked every few seconds to share its free slots.
    """
    queues = _queues.setdefault(asyncio.get_running_loop(), {})
    queue = queues.setdefault(conn_id, SlotQueue(conn_id))
    queue.task = sharing = queue.task or asyncio.create_task(queue.run())
    queue.waiting += 1
    try:
        # Shielded: it runs on for the others when this one is cancelled.
        await asyncio.shield(sharing)
    finally:
        queue.waiting -= 1
        if not queue.waiting:
            queues.pop(conn_id, None)
            sharing.cancel()


class SlotQueue:
    """
    Those who wait in one event loop for slots of one connection.

    :param conn_id: The Airflow connection.
    :param sleep: Waits for a number of seconds.
    """

    def __init__(self, conn_id: str, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._conn_id = conn_id
        self._sleep = sleep
        self._is_failing = False
        self._readable_at = time.monotonic()
        self.waiting = 0
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Have the slots shared until the connection cannot be used."""
        connection = CachedHook(self._conn_id, clock=time.monotonic)
        try:
            while (limit := await self._read_limit(connection)) is not None:
                if limit:
                    await self._share(limit)
                # Two triggerers do not stay in step.
                await self._sleep(SLOT_POLL * random.uniform(0.75, 1.25))  # noqa: S311
        finally:
            await connection.aclose()

    async def _read_limit(self, connection: CachedHook) -> int | None:
        """Return the limit, 0 if it cannot be read now, or None if the connection cannot be used."""
        try:
            limit = (await connection.get()).settings.max_concurrent_tasks
        except AgentTaskError as error:
            # In the end, the worker reads the connection too, and says what is wrong.
            if not error.is_transient or time.monotonic() - self._readable_at > MAX_OUTAGE:
                return None
            self._warn(error)
            return 0
        self._readable_at = time.monotonic()
        # Without a limit there are slots for all: of those that wait, only the last one has a trigger.
        return NO_LIMIT if limit is None else limit

    async def _share(self, limit: int) -> None:
        order = {"do": "share slots", "conn_id": self._conn_id, "limit": limit}
        try:
            await asyncio.to_thread(order_plugin, PATH, "share the slots", order)
        except AgentTaskError as error:
            self._warn(error)
        else:
            self._is_failing = False

    def _warn(self, error: AgentTaskError) -> None:
        if not self._is_failing:
            log.warning(
                "The free slots of connection %r are not shared; %d tasks wait. %s",
                self._conn_id,
                self.waiting,
                error,
            )
        self._is_failing = True


_queues: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SlotQueue]] = WeakKeyDictionary()
