"""Finds out, in the background, whether agent tasks still run that no execution of an Airflow task awaits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.airflow_compat.detached_rows import Detached, close_record
from airflow_agent_tasks.errors import (
    AgentTaskAuthenticationError,
    AgentTaskConfigurationError,
    AgentTaskError,
    AgentTaskNotFoundError,
)
from airflow_agent_tasks.hooks.find_hook import find_hook
from airflow_agent_tasks.lifecycle.submission_record import Submission
from airflow_agent_tasks.plugin.background_calls import BackgroundCalls, Call

log = logging.getLogger(__name__)

#: Seconds after which a service is asked again.
RECHECK = 30.0
#: Seconds after which an agent task whose service gives no answer is taken for ended: an API server that
#: cannot reach the service must not keep a connection full forever.
MAX_SILENCE = 3_600.0
#: Maximum number of records to remember.
MAX_KNOWN = 10_000
#: Number of threads that ask the service of one connection: another one that is silent delays no others.
THREADS = 2


def _start_threads(conn_id: str) -> Callable[[Call], None]:
    return BackgroundCalls(THREADS).start


@dataclass(frozen=True)
class _Known:
    """
    What is known of an agent task.

    :param is_active: Whether it counts.
    :param recheck_at: When to ask again, on the monotonic clock.
    :param answered_at: When its service last answered, or when it was first asked.
    """

    is_active: bool
    recheck_at: float
    answered_at: float


class DetachedAgents:
    """
    Remembers which of these agent tasks are active.

    Each counts towards ``max_concurrent_tasks`` of its connection until its service says that it has ended,
    because the service counts it too.

    :param start_threads: Takes a connection; returns what runs calls for it in the background.
    :param clock: Returns the monotonic time in seconds.
    """

    def __init__(
        self,
        start_threads: Callable[[str], Callable[[Call], None]] = _start_threads,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start_threads = start_threads
        self._clock = clock
        self._lock = threading.Lock()
        self._starts: dict[str, Callable[[Call], None]] = {}
        #: What is known of each record's agent task. A row may later name another one.
        self._known: dict[tuple[int, str | None], _Known] = {}

    def is_active(self, detached: Detached) -> bool:
        """Return whether an agent task may be active; asks its service in the background, and never waits."""
        with self._lock:
            now = self._clock()
            known = self._known.get(_identify(detached)) or _Known(True, 0.0, now)
            if now < known.recheck_at:
                return known.is_active
            # Not while it is being asked.
            self._known[_identify(detached)] = replace(known, recheck_at=float("inf"))
            conn_id = detached.record.conn_id
            start = self._starts.setdefault(conn_id, self._start_threads(conn_id))
        start(partial(self._check, detached, known))
        return known.is_active

    def _check(self, detached: Detached, known: _Known) -> None:
        answer = None
        try:
            answer = _ask(detached)
        finally:
            with self._lock:
                now = self._clock()
                if answer is None:
                    known = replace(known, is_active=now - known.answered_at < MAX_SILENCE)
                else:
                    known = _Known(answer, 0.0, now)
                if len(self._known) >= MAX_KNOWN:
                    # Many of their records are closed by now. The others are asked about again.
                    self._known.clear()
                self._known[_identify(detached)] = replace(known, recheck_at=now + RECHECK)


def _identify(detached: Detached) -> tuple[int, str | None]:
    return detached.row_id, detached.record.task_id


def _ask(detached: Detached) -> bool | None:
    """Return whether the service says that an agent task is active; None if it does not answer."""
    record = detached.record
    try:
        task = _get_task(record)
    except AgentTaskNotFoundError:
        return False
    except (AgentTaskConfigurationError, AgentTaskAuthenticationError) as error:
        # Otherwise, an API server without the right connection would let nobody start anything.
        log.warning("Agent task %s does not count towards max_concurrent_tasks: %s", record.task_id, error)
        return False
    except AgentTaskError as error:
        log.warning("Agent task %s may be active, and counts for an hour: %s", record.task_id, error)
        return None
    if task.is_terminal:
        close_record(detached, task)
    return not (task.is_terminal or task.is_stopped)


def _get_task(record: Submission) -> AgentTask:
    hook = find_hook(record.conn_id)
    return hook.get_task(record.task_id or "", record.agent_id, retries=False, has_result=False)
