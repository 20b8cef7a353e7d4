"""A trigger whose event is not the one that was deferred for, as an answer to a form of the same task is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent


class StrangeTrigger(BaseTrigger):
    """Fires at once with any payload."""

    def __init__(self, event: Any) -> None:
        super().__init__()
        self.event = event

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.{type(self).__qualname__}", {"event": self.event}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        yield TriggerEvent(self.event)
