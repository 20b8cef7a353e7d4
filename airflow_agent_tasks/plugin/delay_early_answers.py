"""
Only for schedulers that fail a task that resumes early; delete with ``airflow_compat/early_answer_delay.py``.

Delays an answer until the scheduler has seen the exit of the worker that asked. Airflow resumes a parked task
the moment it is answered. The worker may report up to ``[workers] min_heartbeat_interval`` late that it has
parked the task, and the scheduler of Airflow 3.3 then fails a task that has been resumed before.
Every Airflow process imports this module, so it imports the rest only when an answer arrives.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterable
from typing import Any

log = logging.getLogger(__name__)

#: Seconds after which an answer goes on in any case, beyond those that the worker may need to leave.
MAX_DELAY = 20.0
#: Airflow's route for an answer; REST under /api/v2 is public.
ANSWER_PATH = re.compile(
    "/api/v2/dags/(?P<dag_id>[^/]+)/dagRuns/(?P<run_id>[^/]+)/taskInstances/(?P<task_id>[^/]+)"
    "/(?P<map_index>-?[0-9]+)/hitlDetails$"
)


class AnswerDelay:
    """
    ASGI middleware that delays answers to our forms by a few seconds.

    :param app: The next ASGI app.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            _check_route(scope)
        is_answer = scope["type"] == "http" and scope["method"] == "PATCH"
        if is_answer and (found := ANSWER_PATH.search(scope["path"])) and _has_credentials(scope):
            try:
                await _delay(found.groupdict())
            except Exception as error:
                log.warning("An answer is not delayed, because its task cannot be read: %s", error)
        await self._app(scope, receive, send)


def _check_route(scope: Any) -> None:
    from airflow_agent_tasks.airflow_compat.startup_check import report

    try:
        fault = None if has_answer_route(scope["app"].routes) else "no route for answers is known"
    except Exception as error:  # which would end the server
        fault = f"its routes cannot be read ({error!r})"
    if fault:
        report(fault, "an answer within seconds of its question may fail the task")


def has_answer_route(routes: Iterable[Any]) -> bool:
    """Return True if one of an app's routes is the one on which answers are delayed."""
    paths = [route.path for route in routes if "PATCH" in (getattr(route, "methods", None) or ())]
    return any(ANSWER_PATH.search(re.sub("{[^}]+}", "1", path)) for path in paths)


def _has_credentials(scope: Any) -> bool:
    """Return True if Airflow may know the sender: it rejects others, so they must cost no query here."""
    return any(name in (b"authorization", b"cookie") for name, _ in scope["headers"])


async def _delay(task: dict[str, str]) -> None:
    from airflow_agent_tasks.airflow_compat.early_answer_delay import read_answer_delay

    arrived_at = time.monotonic()
    while (seconds := await asyncio.to_thread(read_answer_delay, **task)) > 0:
        if time.monotonic() - arrived_at > seconds + MAX_DELAY:
            return
        await asyncio.sleep(seconds)
