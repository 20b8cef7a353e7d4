"""
One contender in a process of its own: waits for many tasks, and prints what that took as JSON.

    python waiter.py CONTENDER URL TASKS INTERVAL SECONDS

CONTENDER is ``bare``, an aiohttp loop that knows nothing of Airflow, or a key of ``contenders.CONTENDERS``.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass, field
from typing import Any

from contenders import CONN_ID, CONTENDERS
from serving import Service

BARE = "bare"
#: Seconds between two looks at how late the event loop is.
BEAT = 0.05

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
    :param ended: Tasks whose event came.
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


async def measure(name: str, url: str, tasks: int, interval: float, seconds: float) -> Measured:
    """Let a contender wait for ``tasks`` tasks, watch it for ``seconds``, and then let them all end."""
    service, measured = Service(url), Measured(name, tasks, interval)
    wait = await _prepare(name, url, interval)
    lags: list[float] = []
    late: list[float] = []
    end = float("inf")

    async def wait_and_note(number: int) -> None:
        await wait(number)
        late.append(time.monotonic() - end - interval * number / tasks)

    waits = [asyncio.create_task(wait_and_note(number)) for number in range(tasks)]
    await asyncio.sleep(1.5 * interval)
    before, cpu, began = await asyncio.to_thread(service.read_counts), time.process_time(), time.monotonic()
    beating = asyncio.create_task(_beat(lags))
    await asyncio.sleep(seconds)
    beating.cancel()
    spent, cpu, after = (
        time.monotonic() - began,
        time.process_time() - cpu,
        await asyncio.to_thread(service.read_counts),
    )
    end = time.monotonic() + 0.5
    await asyncio.to_thread(service.finish, end, interval, tasks)
    _, pending = await asyncio.wait(waits, timeout=3 * interval + 15)
    for task in pending:
        task.cancel()
    counts = await asyncio.to_thread(service.read_counts)
    polls = after["polls"] - before["polls"]
    measured.cpu_ms = 1000 * cpu / max(polls, 1)
    measured.share = polls / (tasks * spent / interval)
    measured.connections = counts["connections"] / counts["polls"]
    measured.rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
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
        await asyncio.sleep(random.random() * interval)  # noqa: S311
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
