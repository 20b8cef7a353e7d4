"""
Measures one contender in its own process: lets it wait for many tasks, and prints the costs as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from lab.benchmarks.bare_loops import LOOPS, Wait, prepare_loop
from lab.benchmarks.contenders import CONN_ID, CONTENDERS
from lab.benchmarks.mock_service_process import MockServiceControl
from lab.benchmarks.percentile import percentile
from lab.command_line import build_parser

#: Seconds between two measurements of the event loop's lag.
BEAT = 0.05
#: Seconds after which the measurement begins even if the contender does not keep the interval.
WARM_UP_TIMEOUT = 60.0
#: A contender keeps the interval if it makes at least this share of the polls that are due.
STEADY_SHARE = 0.95
#: Its multiples are spread evenly, in a different order from the ends of the tasks.
GOLDEN_RATIO = 0.6180339887
#: Units of ``ru_maxrss`` in a MiB: bytes on macOS, KiB elsewhere.
RSS_UNITS = 2**20 if sys.platform == "darwin" else 2**10


@dataclass
class Measured:
    """
    The costs of one contender for a number of tasks at one interval.

    :param cpu_ms: Milliseconds of CPU per poll, including everything in the process.
    :param wakeups: How often the process slept and was woken, per poll: twice on an idle machine, once to
        send and once to receive, but less often if it is late and works on many polls at once.
    :param preemptions: How often per second another process took its processor.
    :param share: Polls made, as a share of those due at the interval.
    :param connections: Connections opened per poll, from the first to the last.
    :param rss_mb: The peak memory of the process, in MiB.
    :param lag_ms: The event loop's lag: median, 99th percentile, maximum.
    :param late: Seconds from a task's end to its event: median, 99th percentile.
    :param ended: Tasks whose event came after their end.
    """

    name: str
    tasks: int
    interval: float
    cpu_ms: float = 0.0
    wakeups: float = 0.0
    preemptions: float = 0.0
    share: float = 0.0
    connections: float = 0.0
    rss_mb: float = 0.0
    lag_ms: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    ended: int = 0


class Snapshot(NamedTuple):
    """The clocks and the service's counts at one moment."""

    at: float
    cpu: float
    wakeups: int
    preemptions: int
    counts: dict[str, float]


class Watcher:
    """
    Reads the clocks and the service's counts, and lets the tasks end.

    In its own thread: a late event loop would read the clocks late, and asyncio's threads may have thousands
    of the contender's polls in their queue.

    :param url: The service's address.
    """

    def __init__(self, url: str) -> None:
        self._service = MockServiceControl(url)
        self._thread = ThreadPoolExecutor(1)

    async def take_snapshot(self) -> Snapshot:
        return await asyncio.wrap_future(self._thread.submit(self._take_snapshot))

    def _take_snapshot(self) -> Snapshot:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        switches = usage.ru_nvcsw, usage.ru_nivcsw
        return Snapshot(time.monotonic(), time.process_time(), *switches, self._service.read_counts())

    async def wait_for_steadiness(self, tasks: int, interval: float) -> None:
        """
        Wait until the contender has kept the interval twice, or for ``WARM_UP_TIMEOUT``.

        Contenders that cannot keep it fall into step during this time, and get slower.
        """
        polls = 0.0
        for _ in range(int(WARM_UP_TIMEOUT / (2 * interval))):
            await asyncio.sleep(2 * interval)
            before, polls = polls, (await self.take_snapshot()).counts["polls"]
            if polls - before >= STEADY_SHARE * 2 * tasks:
                return

    async def finish(self, at: float, seconds: float, tasks: int) -> None:
        """Let the tasks end one after the other from the time ``at``, all within ``seconds``."""
        await asyncio.wrap_future(self._thread.submit(self._service.finish, at, seconds, tasks))


async def measure(name: str, url: str, tasks: int, interval: float, seconds: float) -> Measured:
    """Let a contender wait for ``tasks`` tasks, watch it for ``seconds``, and then let them all end."""
    watcher, measured = Watcher(url), Measured(name, tasks, interval)
    wait = _prepare(name, url, interval)
    lags: list[float] = []
    late: list[float] = []
    end = float("inf")

    async def wait_and_note(number: int) -> None:
        # If all began at once, even contenders that keep the interval would poll in step.
        await asyncio.sleep(interval * (GOLDEN_RATIO * number % 1.0))
        await wait(number)
        seconds_late = time.monotonic() - end - interval * number / tasks
        if seconds_late >= 0:
            late.append(seconds_late)

    waits = [asyncio.create_task(wait_and_note(number)) for number in range(tasks)]
    await watcher.wait_for_steadiness(tasks, interval)
    before, beating = await watcher.take_snapshot(), asyncio.create_task(_beat(lags))
    await asyncio.sleep(seconds)
    beating.cancel()
    after = await watcher.take_snapshot()
    end = time.monotonic() + 0.5
    await watcher.finish(end, interval, tasks)
    # The last one ends after one interval. Contenders that do not keep it get three more.
    _, pending = await asyncio.wait(waits, timeout=0.5 + 4 * interval + 15)
    for task in pending:
        task.cancel()
    counts = (await watcher.take_snapshot()).counts
    polls = after.counts["polls"] - before.counts["polls"]
    measured.cpu_ms = 1000 * (after.cpu - before.cpu) / max(polls, 1)
    measured.wakeups = (after.wakeups - before.wakeups) / max(polls, 1)
    measured.preemptions = (after.preemptions - before.preemptions) / (after.at - before.at)
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


def _prepare(name: str, url: str, interval: float) -> Wait:
    if name in LOOPS:
        return prepare_loop(name, url, interval)
    contender = CONTENDERS[name]
    os.environ["BENCH_SCHEME"] = url.partition("://")[0]
    os.environ[f"AIRFLOW_CONN_{CONN_ID.upper()}"] = json.dumps(contender.connect(url))

    async def wait(number: int) -> None:
        async for _ in contender.build(number, interval).run():
            return

    return wait


if __name__ == "__main__":
    parser = build_parser("lab.benchmarks.measure_waiting", __doc__)
    parser.add_argument(
        "contender", choices=[*LOOPS, *CONTENDERS], help="a provider, or an aiohttp loop without Airflow"
    )
    parser.add_argument("url", help="the address of the mock service")
    parser.add_argument("tasks", type=int, help="how many tasks to wait for")
    parser.add_argument("interval", type=float, help="seconds between two polls of a task")
    parser.add_argument("seconds", type=float, help="how long to measure")
    given = parser.parse_args()
    measured = asyncio.run(measure(given.contender, given.url, given.tasks, given.interval, given.seconds))
    print(json.dumps(asdict(measured)))
