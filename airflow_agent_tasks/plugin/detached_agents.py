"""Finds out, in the background, whether agent tasks still run whose Airflow tasks have ended."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from airflow_agent_tasks.errors import AgentTaskConfigurationError, AgentTaskError, AgentTaskNotFoundError
from airflow_agent_tasks.hooks.find_hook import find_hook
from airflow_agent_tasks.lifecycle.submission_record import Submission
from airflow_agent_tasks.plugin.background_calls import BackgroundCalls, Call

log = logging.getLogger(__name__)

#: Seconds for which an agent task counts as active before its service is asked again.
RECHECK = 30.0
#: The number of agent tasks that are remembered.
MAX_REMEMBERED = 10_000
#: Number of threads that ask services.
THREADS = 2


class DetachedAgents:
    """
    Remembers which agent tasks have ended, of those that Airflow no longer waits for.

    Such an agent task counts towards ``max_concurrent_tasks`` of its connection until its service says that
    it has ended, because the service counts it too.

    :param start: Runs a call in the background.
    :param clock: Returns the monotonic time in seconds.
    """

    def __init__(
        self,
        start: Callable[[Call], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = start or BackgroundCalls(THREADS).start
        self._clock = clock
        self._lock = threading.Lock()
        #: Whether each agent task is active, and until when it counts as that without a check.
        self._known: OrderedDict[str, tuple[bool, float]] = OrderedDict()

    def is_active(self, submission: Submission) -> bool:
        """Return whether an agent task may be active; asks its service in the background, and never waits."""
        key = f"{submission.conn_id}/{submission.task_id}"
        with self._lock:
            is_active, until = self._known.get(key, (True, 0.0))
            is_due = is_active and self._clock() >= until
            if is_due:
                self._remember(key, is_active=True)
        if is_due:
            self._start(partial(self._check, key, submission))
        return is_active

    def _check(self, key: str, submission: Submission) -> None:
        is_active = _ask(submission)
        with self._lock:
            self._remember(key, is_active=is_active)

    def _remember(self, key: str, *, is_active: bool) -> None:
        self._known[key] = (is_active, self._clock() + RECHECK)
        self._known.move_to_end(key)
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)


def _ask(submission: Submission) -> bool:
    """Return whether the service says that an agent task is active; True if it does not answer."""
    task_id = submission.task_id or ""
    try:
        hook = find_hook(submission.conn_id)
        task = hook.get_task(task_id, submission.agent_id, retries=False, has_result=False)
    except AgentTaskNotFoundError:
        return False
    except AgentTaskConfigurationError as error:
        # Otherwise, an API server that cannot read the connection would let nobody start anything.
        log.warning("Agent task %s does not count towards max_concurrent_tasks: %s", task_id, error)
        return False
    except AgentTaskError as error:
        log.warning("Agent task %s counts towards max_concurrent_tasks: %s", task_id, error)
        return True
    return not (task.is_terminal or task.is_stopped)
