"""Measures this process."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import psutil  # type: ignore[import-untyped]


class RunQueue:
    """Measures how long the thread that creates it was ready to run without getting a CPU."""

    def __init__(self) -> None:
        self._schedstat = os.open("/proc/thread-self/schedstat", os.O_RDONLY)

    def read(self) -> float:
        """Return the seconds so far, with one system call that is cheap enough for every step."""
        return int(os.pread(self._schedstat, 100, 0).split()[1]) / 1e9


class Peak:
    """The peak memory of the process, sampled every 10 ms."""

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
