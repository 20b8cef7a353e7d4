"""
Only for schedulers that fail a task that resumes early; delete with ``airflow_compat/early_answer_delay.py``.

Delays an answer until the scheduler has seen the exit of the worker that asked. Airflow resumes a parked task
the moment it is answered. The worker may report up to ``[workers] min_heartbeat_interval`` late that it has
parked the task, and the scheduler of Airflow 3.3 then fails a task that has been resumed before.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from airflow_agent_tasks.airflow_compat.early_answer_delay import read_answer_delay

if TYPE_CHECKING:
    from airflow_agent_tasks.airflow_compat.open_forms import TaskKey

#: Seconds after which an answer goes on in any case, beyond those that the worker may need to leave.
MAX_DELAY = 20.0


async def delay(key: TaskKey) -> None:
    """Return once an answer to this task may go on to Airflow."""
    arrived_at = time.monotonic()
    while (seconds := await asyncio.to_thread(read_answer_delay, key)) > 0:
        if time.monotonic() - arrived_at > seconds + MAX_DELAY:
            return
        await asyncio.sleep(seconds)
