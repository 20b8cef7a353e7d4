"""
One contender in a process of its own: waits for many tasks, and prints what that took as JSON.

    python waiter.py CONTENDER URL TASKS INTERVAL SECONDS

CONTENDER is ``bare``, an aiohttp loop that knows nothing of Airflow, or a key of ``contenders.CONTENDERS``.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from contenders import CONN_ID, CONTENDERS
from serving import Service

BARE = "bare"
#: Seconds between two looks at how late the event loop is.
BEAT = 0.05
#: Seconds after which the watching begins, also where the interval is not kept.
PATIENCE = 60.0
#: Of the polls that the interval asks for: who makes so many keeps it.
SHARE_OF_THE_STEADY = 0.95
#: Its multiples spread evenly, and in another order than the tasks end.
GOLDEN_RATIO = 0.6180339887
#: What ``ru_maxrss`` counts in a MiB: bytes on macOS, KiB elsewhere.
RSS_UNITS = 2**20 if sys.platform == "darwin" else 2**10

Wait = Callable[[int], Coroutine[Any, Any, None]]


@dataclass
class Measured:
    """
    What one contender took for so many tasks at one interval.

    :param cpu_ms: Milliseconds of CPU for each poll, all included.
    :param share: Polls that were made, of those that the interval asks for.
    :param connections: Opened for each poll, from the first to the last.
    :param rss_mb: The most memory that the process held, in MiB.
    :param lag_ms: How late the event loop was: median, 99th percentile, maximum.
    :param late: Seconds from a task's end to its event: median, 99th percentile.
    :param ended: Tasks whose event came, and not before they ended.
    """

    name: str
    tasks: int
    interval: float
    cpu_ms: float = 0.0
    share: float = 0.0
    connections: float = 0.0
    rss_mb: float = 0.0
    lag_ms: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    ended: int = 0


def percentile(values: list[float], share: float) -> float:
    """Return the value below which this share of the values lies; NaN where there are none."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


class Look(NamedTuple):
    """What was so at one moment."""

    at: float
    cpu: float
    counts: dict[str, float]


class Watcher:
    """
    Looks at the clocks and at the service's counts, and lets the tasks end.

    In a thread of its own: an event loop that is late would look late, and asyncio's threads may have
    thousands of the contender's polls to do first.

    :param url: The service's address.
    """

    def __init__(self, url: str) -> None:
        self._service = Service(url)
        self._thread = ThreadPoolExecutor(1)

    async def look(self) -> Look:
        return await asyncio.wrap_future(self._thread.submit(self._look))

    def _look(self) -> Look:
        return Look(time.monotonic(), time.process_time(), self._service.read_counts())

    async def wait_for_steadiness(self, tasks: int, interval: float) -> None:
        """
        Wait until all that the interval asks for was polled for two intervals, or for ``PATIENCE``.

        Within that, those who do not keep their interval come into step, and get slower meanwhile.
        """
        polls = 0.0
        for _ in range(int(PATIENCE / (2 * interval))):
            await asyncio.sleep(2 * interval)
            before, polls = polls, (await self.look()).counts["polls"]
            if polls - before >= SHARE_OF_THE_STEADY * 2 * tasks:
                return

    async def finish(self, at: float, seconds: float, tasks: int) -> None:
        """Let the tasks end one after the other from this moment on, all within so many seconds."""
        await asyncio.wrap_future(self._thread.submit(self._service.finish, at, seconds, tasks))


async def measure(name: str, url: str, tasks: int, interval: float, seconds: float) -> Measured:
    """Let a contender wait for ``tasks`` tasks, watch it for ``seconds``, and then let them all end."""
    watcher, measured = Watcher(url), Measured(name, tasks, interval)
    wait = await _prepare(name, url, interval)
    lags: list[float] = []
    late: list[float] = []
    end = float("inf")

    async def wait_and_note(number: int) -> None:
        # All at once, even those who keep the interval would ask in step; the others come into step anyway.
        await asyncio.sleep(interval * (GOLDEN_RATIO * number % 1.0))
        await wait(number)
        seconds_late = time.monotonic() - end - interval * number / tasks
        if seconds_late >= 0:
            late.append(seconds_late)

    waits = [asyncio.create_task(wait_and_note(number)) for number in range(tasks)]
    await watcher.wait_for_steadiness(tasks, interval)
    before, beating = await watcher.look(), asyncio.create_task(_beat(lags))
    await asyncio.sleep(seconds)
    beating.cancel()
    after = await watcher.look()
    end = time.monotonic() + 0.5
    await watcher.finish(end, interval, tasks)
    # The last one ends after one interval; three more are for those who do not keep it.
    _, pending = await asyncio.wait(waits, timeout=0.5 + 4 * interval + 15)
    for task in pending:
        task.cancel()
    counts = (await watcher.look()).counts
    polls = after.counts["polls"] - before.counts["polls"]
    measured.cpu_ms = 1000 * (after.cpu - before.cpu) / max(polls, 1)
    measured.share = polls / (tasks * (after.at - before.at) / interval)
    measured.connections = counts["connections"] / counts["polls"]
    measured.rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / RSS_UNITS
    measured.lag_ms = [1000 * percentile(lags, share) for share in (0.5, 0.99, 1.0)]
    measured.late = [percentile(late, share) for share in (0.5, 0.99)]
    measured.ended = len(late)
    return measured


async def _beat(lags: list[float]) -> None:
    while True:
        due = time.perf_counter() + BEAT
        await asyncio.sleep(BEAT)
        lags.append(time.perf_counter() - due)


async def _prepare(name: str, url: str, interval: float) -> Wait:
    if name == BARE:
        return await _prepare_bare(url, interval)
    contender = CONTENDERS[name]
    os.environ["BENCH_SCHEME"] = url.partition("://")[0]
    os.environ[f"AIRFLOW_CONN_{CONN_ID.upper()}"] = json.dumps(contender.connect(url))

    async def wait(number: int) -> None:
        async for _ in contender.build(number, interval).run():
            return

    return wait


async def _prepare_bare(url: str, interval: float) -> Wait:
    import aiohttp

    session = aiohttp.ClientSession()

    async def wait(number: int) -> None:
        while True:
            async with session.get(f"{url}/agent/tasks/{number}") as reply:
                if (await reply.json())["status"] == "completed":
                    return
            await asyncio.sleep(interval)

    return wait


if __name__ == "__main__":
    contender, address, count, every, watched = sys.argv[1:]
    found = asyncio.run(measure(contender, address, int(count), float(every), float(watched)))
    print(json.dumps(asdict(found)))
