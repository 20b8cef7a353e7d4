"""Pushes the status, progress and usage of an agent task to XCom while its Airflow task is deferred."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from airflow.sdk import BaseXCom

from airflow_agent_tasks.agent_task import STATUS_KEY, AgentTask
from airflow_agent_tasks.lifecycle.pace import Pace
from airflow_agent_tasks.logger_protocol import Log
from airflow_agent_tasks.polling.loop_rate import LoopRate

PROGRESS_KEY = "progress"
USAGE_KEY = "usage"
#: The pushes of all waiting tasks of a triggerer: each occupies its only supervisor thread for up to 150 ms,
#: in which all connection lookups and log lines wait.
PUSHES = LoopRate(1.0)
#: Seconds to wait for Airflow to store a value; the agent task is not polled in the meantime.
PUSH_TIMEOUT = 10.0


class StateXComs:
    """
    Pushes the agent's ``status``, ``progress`` and ``usage`` to XCom together when they change, at a pace.

    A push that comes too soon is put off until a later check.

    :param task_instance: The waiting task instance, as the triggerer knows it.
    :param log: The log for failures.
    :param noted_status: The status that XCom already has, or None (default).
    :param clock: Returns the monotonic time in seconds.
    """

    def __init__(
        self,
        task_instance: Any,
        log: Log,
        *,
        noted_status: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._task_instance = task_instance
        self._log = log
        self._clock = clock
        self._pace = Pace(PUSHES)
        self._pushed: dict[str, Any] = {STATUS_KEY: noted_status}

    async def push(self, task: AgentTask | None) -> None:
        """Push changed values; a failed push never ends the wait."""
        changes = self._list_changes(task) if task else {}
        if changes and self._pace.take(now=self._clock()):
            await self._push(changes)

    async def push_end(self, task: AgentTask) -> None:
        """Push changed values at once, for an agent task that nothing waits for any more."""
        await self._push(self._list_changes(task))

    async def read_status(self) -> str | None:
        """Return the status in XCom, which may come from a later execution on a worker; None if unknown."""
        try:
            reading = BaseXCom.aget_value(ti_key=self._task_instance, key=STATUS_KEY)
            status = await asyncio.wait_for(reading, PUSH_TIMEOUT)
        except Exception as error:
            self._log.warning("Could not read the status from XCom: %r", error)
            return None
        return status if isinstance(status, str) else None

    def _list_changes(self, task: AgentTask) -> dict[str, Any]:
        seen = {STATUS_KEY: task.status.value, **list_moving_values(task)}
        return {key: value for key, value in seen.items() if self._pushed.get(key) != value}

    async def _push(self, changes: dict[str, Any]) -> None:
        instance = self._task_instance
        for key, value in changes.items():
            self._pushed[key] = value
            try:
                pushing = BaseXCom.aset(
                    key,
                    value,
                    dag_id=instance.dag_id,
                    run_id=instance.run_id,
                    task_id=instance.task_id,
                    map_index=instance.map_index,
                )
                await asyncio.wait_for(pushing, PUSH_TIMEOUT)
            except asyncio.TimeoutError:
                # The others would wait as long, while nobody sees the agent pass its budget or end. A later
                # check pushes them.
                self._log.warning("Could not push the %s to XCom within %s s.", key, PUSH_TIMEOUT)
                return
            except Exception as error:
                self._log.warning("Could not push the %s to XCom: %r", key, error)


def list_moving_values(task: AgentTask) -> dict[str, Any]:
    """Return the XComs, by key, that change while the agent works in one state."""
    values: dict[str, Any] = {}
    if task.progress:
        values[PROGRESS_KEY] = task.progress.to_json()
    if task.usage:
        values[USAGE_KEY] = dict(task.usage)
    return values
