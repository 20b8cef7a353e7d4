"""The cached connection of a shared poller: one lookup for all waiting tasks, refreshed every minute."""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import Callable

from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.hooks.connection_settings import connection_not_found
from airflow_agent_tasks.hooks.find_hook import afind_hook

log = logging.getLogger(__name__)

#: Seconds after which a connection is looked up again.
TTL = 60.0
#: Seconds for which a failed lookup is reported to every caller instead of being repeated.
FAILURE_TTL = 5.0
#: Seconds to wait for Airflow to return a connection: a triggerer's one supervisor thread may be busy.
LOOKUP_TIMEOUT = 60.0


class CachedHook:
    """
    The hook of one connection, with an open client, for all agent tasks that are polled on one event loop.

    The connection is looked up on first use, then refreshed in the background every minute, so that a changed
    key is found. Refreshes are single-flight: all callers wait for the same one. In a triggerer a lookup
    occupies the one supervisor thread for 50 ms.

    :param conn_id: The Airflow connection.
    :param clock: Returns the monotonic time in seconds.
    """

    def __init__(self, conn_id: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._conn_id = conn_id
        self._clock = clock
        self._hook: AgentTaskHook | None = None
        self._failure: AgentTaskError | None = None
        self._refreshed_at = 0.0
        self._refresh_task: asyncio.Task[None] | None = None

    def get_fresh(self) -> AgentTaskHook | None:
        """Return the hook if it needs no refresh, or None."""
        return self._hook if self._clock() - self._refreshed_at < TTL else None

    async def get(self) -> AgentTaskHook:
        """Return the hook; raises the errors of ``find_hook`` and of opening a client."""
        age = self._clock() - self._refreshed_at
        if self._hook:
            if age >= TTL:
                self._begin_refresh()
            return self._hook
        if self._refresh_task or not self._failure or age >= FAILURE_TTL:
            await self._join_refresh()
        if self._hook:
            return self._hook
        raise copy.copy(self._failure) if self._failure else connection_not_found(self._conn_id)

    async def refresh(self) -> None:
        """Look the connection up now, because the service rejected its key."""
        # A refresh that is already running may have read the old connection.
        self._cancel_refresh()
        await self._join_refresh()

    async def aclose(self) -> None:
        """Close the client; the next ``get`` opens a new one."""
        if running := self._refresh_task:
            self._cancel_refresh()
            await asyncio.wait([running])
        hook, self._hook = self._hook, None
        if hook:
            await hook.aclose()

    async def _join_refresh(self) -> None:
        # Not awaited directly: a caller that is cancelled must not cancel the refresh for the others, and a
        # refresh that is superseded must not cancel its waiters.
        await asyncio.wait([self._begin_refresh()])

    def _begin_refresh(self) -> asyncio.Task[None]:
        if self._refresh_task is None or self._refresh_task.done():
            self._refresh_task = asyncio.create_task(self._refresh())
        return self._refresh_task

    def _cancel_refresh(self) -> None:
        if self._refresh_task:
            self._refresh_task.cancel()
        self._refresh_task = None

    async def _refresh(self) -> None:
        earlier, unused = self._hook, None
        try:
            # A supervisor that never responds must not block the polls of this connection forever.
            hook = await asyncio.wait_for(afind_hook(self._conn_id), LOOKUP_TIMEOUT)
            if self._is_superseded():
                return
            if earlier and earlier.connection and not hook.connection:
                # Deleted or currently unreadable: Airflow reports both in the same way. The key in the
                # environment may belong to another account, which does not have our agent tasks.
                raise connection_not_found(self._conn_id)
            if earlier and earlier.settings == hook.settings:
                hook.async_client = earlier.async_client
            else:
                await hook.aopen()
                unused = earlier
            self._hook, self._failure = hook, None
        except Exception as error:
            if self._is_superseded():
                return
            self._on_failure(error)
        self._refresh_task, self._refreshed_at = None, self._clock()
        if unused:
            await unused.aclose()

    def _is_superseded(self) -> bool:
        # wait_for of Python 3.10 and 3.11 loses a cancellation that arrives together with the result.
        return self._refresh_task is not asyncio.current_task()

    def _on_failure(self, error: Exception) -> None:
        if not isinstance(error, AgentTaskError):
            # Airflow raises PermissionError in a triggerer that may not read it. A secrets backend may raise
            # anything, and only the exception's type is safe to log.
            log.warning("Looking up connection %r failed: %s", self._conn_id, type(error).__name__)
            error = connection_not_found(self._conn_id)
        if self._hook and str(error) != str(self._failure):
            log.warning("Refreshing connection %r failed; using its last state: %s", self._conn_id, error)
        self._failure = error
