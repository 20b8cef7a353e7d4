"""Where all triggers of an event loop and connection wait: with one look-up, session, limit and silence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.polling.circuit_breaker import Silence, is_key_refused
from airflow_agent_tasks.polling.connection_cache import SharedHook
from airflow_agent_tasks.polling.rate_limiter import Turns

#: Connections to the service, and with it requests at the same time.
CONNECTIONS = 100


class WaitingPlace:
    """
    Asks a service for all the agent tasks that are waited for at one connection.

    Enter it through :func:`enter_place`.

    :param conn_id: The Airflow connection.
    """

    def __init__(self, conn_id: str) -> None:
        self._shared_hook = SharedHook(conn_id)
        self._hook: AgentTaskHook | None = None
        self._turns = Turns(CONNECTIONS)
        self._silence = Silence()
        #: Held by the one who asks Airflow what became of a task.
        self.reading_state = asyncio.Lock()
        self.users = 0

    async def ask(self, task_id: str, agent_id: str | None, *, since: float = 0.0) -> AgentTask:
        """
        Return an agent task's state, without its result.

        :param since: When it was last asked for, on the monotonic clock: where the connection's
            ``requests_per_second`` make somebody wait, the one who has not asked for longest goes first.
        :raises AgentTaskHeldBackError: while the service is left alone, without a request.
        :raises AgentTaskError: As ``AgentTaskHook.get_task``, and what a look-up raises.
        """
        # Before the turn, since the limit is a part of the connection, and who is held back needs no turn.
        await self._find_hook()
        now = time.monotonic()
        if self._silence.is_kept(now=now):
            raise self._silence.refuse(now=now)
        await self._turns.take(since)
        try:
            return await self._ask_in_turn(task_id, agent_id)
        finally:
            self._turns.give_back()

    async def stop(self, task_id: str, agent_id: str | None) -> AgentTask:
        """
        Stop an agent task, before all who ask, and whether or not the service is left alone.

        :raises AgentTaskHeldBackError: while the key is one that the service has just refused.
        """
        await self._find_hook()
        # For the limit's sake only: its retries may take a minute, during which others need the turn.
        await self._turns.take(0.0)
        self._turns.give_back()
        # Once more, because the client of a connection that was changed meanwhile is closed.
        hook = await self._find_hook()
        now = time.monotonic()
        if self._silence.is_about_key and self._silence.is_kept(now=now):
            raise self._silence.refuse(now=now)
        return await hook.astop_task(task_id, agent_id)

    async def close(self) -> None:
        """Close the connections."""
        await self._shared_hook.close()

    async def _ask_in_turn(self, task_id: str, agent_id: str | None) -> AgentTask:
        hook = await self._find_hook()
        silence, asked_at = self._silence, time.monotonic()
        if not silence.enter(now=asked_at):
            self._turns.forgo()
            raise silence.refuse(now=asked_at)
        try:
            task = await hook.aget_task(task_id, agent_id)
        except AgentTaskError as error:
            is_news = silence.on_error(error, asked_at=asked_at, now=time.monotonic())
            if not is_key_refused(error):
                raise
            if not is_news:
                raise silence.refuse(now=time.monotonic()) from None
            # The key may have been changed since the last look-up.
            await self._shared_hook.renew()
            await self._find_hook()
            if self._silence is silence:
                raise
        else:
            silence.on_answer(asked_at=asked_at)
            return task
        return await self._ask_in_turn(task_id, agent_id)

    async def _find_hook(self) -> AgentTaskHook:
        hook = await self._shared_hook.find()
        if hook is not self._hook:
            if self._hook is None:
                self._turns.limit(hook.settings.requests_per_second)
            elif hook.settings != self._hook.settings:
                # What was heard of the service was said to another key, or by another host.
                self._silence = Silence(untried_since=time.monotonic())
                self._turns.limit(hook.settings.requests_per_second)
            self._hook = hook
        return hook


_places: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, WaitingPlace]] = WeakKeyDictionary()


@asynccontextmanager
async def enter_place(conn_id: str) -> AsyncIterator[WaitingPlace]:
    """
    Give the place of this event loop and connection, and close its connections after its last user.

    Leave the block before a trigger yields its event: what is awaited afterwards is cancelled.
    """
    places = _places.setdefault(asyncio.get_running_loop(), {})
    if conn_id not in places:
        places[conn_id] = WaitingPlace(conn_id)
    place = places[conn_id]
    place.users += 1
    try:
        yield place
    finally:
        place.users -= 1
        if not place.users:
            # What was heard of the service is forgotten with it.
            del places[conn_id]
            await place.close()
