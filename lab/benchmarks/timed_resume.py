"""Operators that note when their tasks resume, and a trigger that fires at a known moment."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_agent_tasks.operators.shinzo import ShinzoTaskOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


def note_resume(context: Context, *, due: float | None = None) -> None:
    """
    Append one line of JSON to the file that the environment variable ``RESUMES`` names.

    :param due: When the task should have resumed, in seconds since 1970; None if its service knows.
    """
    with Path(os.environ["RESUMES"]).open("a") as file:
        file.write(json.dumps([context["run_id"], due, time.time()]) + "\n")


class TimedShinzoTaskOperator(ShinzoTaskOperator):
    """Notes when it resumes."""

    def execute_complete(self, context: Context, event: Any, is_asked: bool = False) -> Any:
        """Note the resume, and go on as usual."""
        note_resume(context)
        return super().execute_complete(context, event, is_asked)


class AlarmTrigger(BaseTrigger):
    """
    Fires once.

    :param moment: When, in seconds since 1970.
    """

    def __init__(self, moment: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moment = moment

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {"moment": self.moment}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.sleep(self.moment - time.time())
        yield TriggerEvent(self.moment)  # type: ignore[no-untyped-call]


class AlarmOperator(BaseOperator):
    """
    Waits in the triggerer, and notes when it resumes: the least that Airflow itself needs.

    :param seconds: How long it waits.
    """

    def __init__(self, *, seconds: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seconds = seconds

    def execute(self, context: Context) -> None:
        """Defer."""
        self.defer(trigger=AlarmTrigger(time.time() + self.seconds), method_name="resume")

    def resume(self, context: Context, event: float) -> None:
        """Note the resume."""
        note_resume(context, due=event)
