"""The hook that all who wait at one connection share, read anew from the connection every minute."""

from __future__ import annotations

import asyncio
import copy
import logging
import time

from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.hooks.connection_settings import connection_not_found
from airflow_agent_tasks.hooks.find_hook import afind_hook

log = logging.getLogger(__name__)

#: Seconds after which a connection is looked up again.
LOOK_UP_EVERY = 60.0
#: Seconds for which everybody hears of a look-up that failed, instead of asking for another.
FAILURE_KEPT = 5.0
#: Seconds for Airflow to tell a connection: a triggerer's one supervisor thread may be busy with others.
LOOK_UP_TIMEOUT = 60.0


class SharedHook:
    """
    The hook, with an open client, that all who wait on one event loop share for a connection.

    The connection is looked up when somebody first needs it, and again every minute: in the triggerer each
    look-up takes its turn in one thread, 50 ms each, and a key that was changed has to be found.

    :param conn_id: The Airflow connection.
    """

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self._hook: AgentTaskHook | None = None
        self._failure: AgentTaskError | None = None
        self._looked_up_at = 0.0
        self._look_up: asyncio.Task[None] | None = None

    async def find(self) -> AgentTaskHook:
        """Return the hook; raises as :func:`find_hook`, and what opening a client raises."""
        age = time.monotonic() - self._looked_up_at
        if self._hook:
            if age >= LOOK_UP_EVERY:
                self._begin_look_up()
            return self._hook
        if self._look_up or not self._failure or age >= FAILURE_KEPT:
            await self._look_up_together()
        if self._hook:
            return self._hook
        raise copy.copy(self._failure) if self._failure else connection_not_found(self._conn_id)

    async def renew(self) -> None:
        """Look the connection up now, because its key was refused."""
        # One that has begun already may have read what was there before.
        self._cancel_look_up()
        await self._look_up_together()

    async def close(self) -> None:
        """Close the connections; the next who asks opens new ones."""
        if look_up := self._look_up:
            self._cancel_look_up()
            await asyncio.wait([look_up])
        hook, self._hook = self._hook, None
        if hook:
            await hook.aclose()

    async def _look_up_together(self) -> None:
        # One who gives up must not end it for the others, nor those who wait be ended with it by a renewal.
        await asyncio.wait([self._begin_look_up()])

    def _begin_look_up(self) -> asyncio.Task[None]:
        if self._look_up is None or self._look_up.done():
            self._look_up = asyncio.create_task(self._look_up_once())
        return self._look_up

    def _cancel_look_up(self) -> None:
        if self._look_up:
            self._look_up.cancel()
        self._look_up = None

    async def _look_up_once(self) -> None:
        earlier, unused = self._hook, None
        try:
            # A supervisor that never answers must not hold up the waits of this connection for ever.
            hook = await asyncio.wait_for(afind_hook(self._conn_id), LOOK_UP_TIMEOUT)
            if self._is_overtaken():
                return
            if earlier and earlier.connection and not hook.connection:
                # Not there any more, or not to be read just now, and Airflow does not tell which. The key in
                # the environment may be another account's, which knows none of our agent tasks.
                raise connection_not_found(self._conn_id)
            if earlier and earlier.settings == hook.settings:
                hook.async_client = earlier.async_client
            else:
                await hook.aopen()
                unused = earlier
            self._hook, self._failure = hook, None
        except Exception as error:
            if self._is_overtaken():
                return
            self._on_failure(error)
        self._look_up, self._looked_up_at = None, time.monotonic()
        if unused:
            await unused.aclose()

    def _is_overtaken(self) -> bool:
        # wait_for of Python 3.10 and 3.11 passes over a cancel that comes in the moment of the reply.
        return self._look_up is not asyncio.current_task()

    def _on_failure(self, error: Exception) -> None:
        if not isinstance(error, AgentTaskError):
            # Airflow says PermissionError to a triggerer that may not read it; a secrets backend, anything,
            # of which no more than the type is safe to be logged.
            log.warning("The look-up of connection %r failed: %s", self._conn_id, type(error).__name__)
            error = connection_not_found(self._conn_id)
        if self._hook and str(error) != str(self._failure):
            log.warning("Connection %r is used as it was last seen: %s", self._conn_id, error)
        self._failure = error
