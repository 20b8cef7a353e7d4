"""What a deferred task shows of its agent's progress while it waits."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from weakref import WeakKeyDictionary

from airflow.sdk import BaseXCom

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.logger import Log

PROGRESS_KEY = "progress"
#: Seconds between two notes of one triggerer: its one supervisor thread needs up to 150 ms for each, and all
#: connection look-ups and log lines wait meanwhile.
SECONDS_BETWEEN_NOTES = 1.0
#: Seconds for Airflow to take one; the agent task is not asked for meanwhile.
SECONDS_FOR_A_NOTE = 10.0

_last_notes: WeakKeyDictionary[asyncio.AbstractEventLoop, float] = WeakKeyDictionary()


class ProgressNotes:
    """
    Leaves the agent's progress under the XCom key ``progress``: on change, and not too often.

    A note that comes too soon after another task's is left out, and made up for at the next check.

    :param task_instance: The task instance that waits, as the triggerer knows it.
    :param log: Where a failure is logged.
    """

    def __init__(self, task_instance: Any, log: Log) -> None:
        self._task_instance = task_instance
        self._log = log
        self._noted: dict[str, Any] | None = None

    async def take(self, task: AgentTask | None) -> None:
        """Leave a note if there is news; a failure to do so never ends the wait."""
        progress = task.progress.to_json() if task and task.progress else None
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        if progress in (None, self._noted) or now - _last_notes.get(loop, 0.0) < SECONDS_BETWEEN_NOTES:
            return
        _last_notes[loop], self._noted = now, progress
        instance = self._task_instance
        try:
            leaving = BaseXCom.aset(
                PROGRESS_KEY,
                progress,
                dag_id=instance.dag_id,
                run_id=instance.run_id,
                task_id=instance.task_id,
                map_index=instance.map_index,
            )
            await asyncio.wait_for(leaving, SECONDS_FOR_A_NOTE)
        except Exception as error:
            self._log.warning("The progress could not be left in XCom: %r", error)
