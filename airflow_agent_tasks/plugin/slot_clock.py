"""Has slots shared now and then while tasks wait for them, even if no triggerer and no other task asks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

#: Seconds between two rounds.
INTERVAL = 10.0


class SlotClock:
    """
    A thread of an API server that makes rounds as long as tasks wait.

    :param make_round: Has the slots shared; returns whether any task waits.
    :param wait: Waits for a number of seconds.
    """

    def __init__(self, make_round: Callable[[], bool], wait: Callable[[float], object] = time.sleep) -> None:
        self._make_round = make_round
        self._wait = wait
        self._lock = threading.Lock()
        self._is_running = self._is_wanted = False

    def start(self) -> None:
        """Make at least one more round."""
        with self._lock:
            self._is_wanted = True
            if self._is_running:
                return
            self._is_running = True
        threading.Thread(target=self._run, name="agent-task-slots", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._wait(INTERVAL)
            with self._lock:
                self._is_wanted = False
            try:
                goes_on = self._make_round()
            except Exception as error:
                # Only the type: a database quotes its parameters in the message.
                log.warning("Could not share the slots of connections: %s", type(error).__name__)
                goes_on = True
            with self._lock:
                if not (goes_on or self._is_wanted):
                    self._is_running = False
                    return
