"""Wakes the tasks whose services have called back, in a background thread of the API server."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator
from functools import partial

from airflow_agent_tasks.airflow_compat.resume_delay import measure_resume_delay
from airflow_agent_tasks.airflow_compat.waiting_tasks import (
    WAITING,
    find_task,
    read_submission,
    resume,
)
from airflow_agent_tasks.callbacks.token import CallbackToken, fingerprint
from airflow_agent_tasks.plugin.background_calls import BackgroundCalls

log = logging.getLogger(__name__)

#: Number of threads that wake tasks: with a second one, a thousand calls in ten seconds slow down the UI.
THREADS = 1
#: How many times as long as it computed the thread rests: a storm of calls leaves three quarters of Python's
#: one lock to those who use the UI meanwhile.
REST = 3
#: Seconds between two attempts to wake one task, at least.
INTERVAL = 1.0
#: Seconds for which a call waits for a running task to defer or park, and for a database that reports errors.
MAX_HOLD = 60.0

#: Yields the seconds until the next attempt, so that waiting does not occupy a thread.
Waits = Generator[float, None, None]


class WakeUps:
    """Wakes tasks, each at most once per ``INTERVAL``, however often their services call."""

    def __init__(self) -> None:
        self._calls = BackgroundCalls(THREADS)
        self._lock = threading.Lock()
        #: The tokens being worked on, and whether another call has come meanwhile.
        self._is_called_again: dict[CallbackToken, bool] = {}

    def request(self, token: CallbackToken) -> None:
        """Wake the task that waits for a submission, if there is one; returns at once."""
        with self._lock:
            is_known = token in self._is_called_again
            self._is_called_again[token] = is_known
        if not is_known:
            self._calls.start(partial(_advance, self._work_on(token)))

    def _work_on(self, token: CallbackToken) -> Waits:
        while True:
            with self._lock:
                self._is_called_again[token] = False
            yield from wake(token)
            yield INTERVAL
            with self._lock:
                # A call during the work may be about a change that the woken task did not see.
                if not self._is_called_again[token]:
                    del self._is_called_again[token]
                    return


def _advance(waits: Waits) -> float | None:
    """Let the work go on until it has to wait, and rest; return the seconds to wait, or None at its end."""
    began_at = time.thread_time()
    seconds = next(waits, None)
    time.sleep(REST * (time.thread_time() - began_at))
    return seconds


def wake(token: CallbackToken) -> Waits:
    """
    Wake the task that waits for a submission.

    A task that just leaves its worker is woken later: before its worker has reported that, the scheduler
    would fail it. A task in any other state needs no call: its next execution looks at its agent task.
    """
    began_at = time.monotonic()
    while True:
        held = time.monotonic() - began_at
        try:
            seconds = _attempt(token, held)
        except Exception as error:
            seconds = _pause(held)
            if seconds is None:
                # Only the type: a database quotes its parameters in the message.
                log.warning("Could not wake the task of a callback: %s", type(error).__name__)
        if seconds is None:
            return
        yield seconds


def _pause(held: float) -> float | None:
    """Return the seconds until the next attempt, or None if a call has been held for too long."""
    return INTERVAL + held / 4 if held < MAX_HOLD else None


def _attempt(token: CallbackToken, held: float) -> float | None:
    """Return the seconds after which to try again, or None if there is nothing left to do."""
    row = find_task(token.task_instance_id)
    if row is None or row.state not in (*WAITING, "running"):
        return None
    submission = read_submission(row)
    # The task may wait for a later submission.
    if submission is None or fingerprint(submission.idempotency_key) != token.submission:
        return None
    if row.state == "running":
        return _pause(held)
    if submission.task_id is None:
        # The worker could not write the id; only the trigger's event has it.
        return None
    if (seconds := measure_resume_delay(row)) > 0:
        return seconds
    if not resume(row):
        return INTERVAL
    log.info("Woke task %s of DAG %s, run %s, for a callback", row.task_id, row.dag_id, row.run_id)
    return None
