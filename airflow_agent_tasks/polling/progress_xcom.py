"""The progress of an agent task, pushed to XCom while its Airflow task is deferred."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from airflow.sdk import BaseXCom

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.logger_protocol import Log

PROGRESS_KEY = "progress"
#: Seconds between two pushes of one triggerer: each occupies its one supervisor thread for up to 150 ms, and
#: all connection lookups and log lines wait meanwhile.
PUSH_INTERVAL = 1.0
#: Seconds to wait for Airflow to store one; the agent task is not polled meanwhile.
PUSH_TIMEOUT = 10.0

_last_pushes: WeakKeyDictionary[asyncio.AbstractEventLoop, float] = WeakKeyDictionary()


class ProgressXCom:
    """
    Pushes the agent's progress to the XCom key ``progress`` when it changes, at most once a second.

    A push that comes too soon after another task's is skipped, and made up for at the next check.

    :param task_instance: The waiting task instance, as the triggerer knows it.
    :param log: Where failures are logged.
    :param clock: Returns the monotonic time in seconds.
    """

    def __init__(self, task_instance: Any, log: Log, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._task_instance = task_instance
        self._log = log
        self._clock = clock
        self._pushed: dict[str, Any] | None = None

    async def push(self, task: AgentTask | None) -> None:
        """Push the progress if it has changed; a failure to do so never ends the wait."""
        progress = task.progress.to_json() if task and task.progress else None
        loop = asyncio.get_running_loop()
        now = self._clock()
        if progress in (None, self._pushed) or now - _last_pushes.get(loop, -PUSH_INTERVAL) < PUSH_INTERVAL:
            return
        _last_pushes[loop], self._pushed = now, progress
        instance = self._task_instance
        try:
            pushing = BaseXCom.aset(
                PROGRESS_KEY,
                progress,
                dag_id=instance.dag_id,
                run_id=instance.run_id,
                task_id=instance.task_id,
                map_index=instance.map_index,
            )
            await asyncio.wait_for(pushing, PUSH_TIMEOUT)
        except Exception as error:
            self._log.warning("Could not push the progress to XCom: %r", error)
