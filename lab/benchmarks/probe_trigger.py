"""A trigger that measures from within a triggerer what its event loop costs and how late it is."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import structlog
from airflow.jobs.triggerer_job_runner import TriggerRunner
from airflow.triggers.base import BaseTrigger, TriggerEvent

#: Seconds between two measurements of the event loop's lag.
BEAT = 0.05
BEATS_PER_LINE = 20


class ProbeTrigger(BaseTrigger):
    """
    Writes one line of JSON each second: the time, the CPU seconds of the process, the lags of the event loop.

    It also silences Airflow's own lines about the start of each trigger: ten thousand take minutes.

    :param path: The file.
    """

    def __init__(self, path: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.path = path

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {"path": self.path}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        TriggerRunner.log = structlog.wrap_logger(
            None, wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING)
        )
        with Path(self.path).open("a", buffering=1) as file:  # noqa: ASYNC230 - once, at the start
            while True:
                lags = [await self._measure_lag() for _ in range(BEATS_PER_LINE)]
                file.write(json.dumps([time.monotonic(), time.process_time(), lags]) + "\n")
        yield TriggerEvent(None)

    async def _measure_lag(self) -> float:
        due = time.perf_counter() + BEAT
        await asyncio.sleep(BEAT)
        return time.perf_counter() - due
