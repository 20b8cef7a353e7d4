"""Measures this process: its size, and how long it has waited for a CPU."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil  # type: ignore[import-untyped]


def read_queued() -> dict[str, float]:
    """Return the seconds for which each of this process's threads was ready to run, and had no CPU."""
    seconds = {}
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            seconds[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
    return seconds


def count_queued(before: dict[str, float], after: dict[str, float]) -> float:
    """Return for how many seconds the threads were ready to run between two readings."""
    return sum(seconds - before.get(thread, 0.0) for thread, seconds in after.items())


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
