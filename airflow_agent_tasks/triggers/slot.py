"""The trigger of a task that waits for a slot of its connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_agent_tasks.airflow_compat.resume_timing import read_resume_guard
from airflow_agent_tasks.lifecycle.trigger_event import build_slot_event
from airflow_agent_tasks.polling.slot_queue import wait_while_limited


class AgentTaskSlotTrigger(BaseTrigger):
    """
    Wait until a connection with ``max_concurrent_tasks`` has a slot for the task.

    The plugin in the API server gives the slots away, and resumes the task that gets one. This trigger makes
    it do so every few seconds, and yields an event only if the connection cannot be used: then the worker
    says what is wrong.

    :param conn_id: The Airflow connection. Required.
    """

    def __init__(self, *, conn_id: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id = conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that recreate this trigger."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"conn_id": self.conn_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event if the connection cannot be used."""
        # The scheduler must have seen the worker's exit before the task resumes.
        await asyncio.sleep(read_resume_guard())
        await wait_while_limited(self.conn_id)
        yield TriggerEvent(build_slot_event(getattr(self.task_instance, "try_number", None) or 0))  # type: ignore[no-untyped-call]
