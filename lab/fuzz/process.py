"""Measures this process."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import psutil  # type: ignore[import-untyped]


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
