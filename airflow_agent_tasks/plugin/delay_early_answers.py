"""
Delays an answer until the scheduler has seen the exit of the worker that asked.

Only for schedulers that fail a task if it resumes early; delete with
``airflow_compat/early_answer_delay.py``. Airflow resumes a parked task as soon as it is answered. The worker
may report up to ``[workers] min_heartbeat_interval`` seconds late that it has parked the task. If the task
has already resumed by then, the scheduler of Airflow 3.3 fails it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from airflow_agent_tasks.airflow_compat.early_answer_delay import read_answer_delay

if TYPE_CHECKING:
    from airflow_agent_tasks.airflow_compat.open_forms import TaskKey

#: Maximum delay of an answer in seconds, in addition to the time that the worker may need to exit.
MAX_DELAY = 20.0


async def delay(key: TaskKey) -> None:
    """Return once an answer to this task may proceed to Airflow."""
    arrived_at = time.monotonic()
    while (seconds := await asyncio.to_thread(read_answer_delay, key)) > 0:
        if time.monotonic() - arrived_at > seconds + MAX_DELAY:
            return
        await asyncio.sleep(seconds)
