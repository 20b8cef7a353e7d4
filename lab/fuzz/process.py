"""Measures this process."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import psutil  # type: ignore[import-untyped]


class RunQueue:
    """For how long the thread that makes it has been ready to run, and had no CPU."""

    def __init__(self) -> None:
        self._schedstat = os.open("/proc/thread-self/schedstat", os.O_RDONLY)

    def read(self) -> float:
        """Return the seconds so far, with the single system call that is cheap enough for every step."""
        return int(os.pread(self._schedstat, 100, 0).split()[1]) / 1e9


class Peak:
    """The largest size of the process, seen every 10 ms."""

    def __init__(self, process: psutil.Process) -> None:
        self._peak, self._is_over = 0, False
        self._threads = ThreadPoolExecutor(1)
        self._future = self._threads.submit(self._watch, process)

    def _watch(self, process: psutil.Process) -> None:
        while not self._is_over:
            self._peak = max(self._peak, process.memory_info().rss)
            time.sleep(0.01)

    def stop(self) -> int:
        self._is_over = True
        self._threads.shutdown()
        return self._peak
