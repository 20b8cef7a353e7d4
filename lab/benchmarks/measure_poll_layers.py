"""
Measures where a poll spends its time: how much CPU each layer of this package adds to the cheapest loop.

One poll follows the other, first with aiohttp alone, then with one more layer each time. The layers take
turns, and each figure is the least of many short rounds, so other programs hardly change it.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from lab.benchmarks.bare_loops import CheapestLoop
from lab.benchmarks.contenders import CONN_ID, CONTENDERS
from lab.benchmarks.markdown_table import print_table
from lab.benchmarks.mock_service_process import run_mock_service
from lab.benchmarks.processors import PROCESSORS, describe_processors
from lab.command_line import build_parser, run_command

CONTENDER = CONTENDERS["ours"]
#: Each layer makes this many polls per round, of as many tasks.
POLLS = 100
ROUNDS = 200

Poll = Callable[[int], Awaitable[object]]


async def open_layers(url: str, stack: AsyncExitStack) -> dict[str, Poll]:
    """Return how each layer polls a task; the next one includes it."""
    # Imported here, because Airflow reads its configuration first.
    from airflow_agent_tasks.polling.shared_poller import use_poller
    from airflow_agent_tasks.polling.status_check import StatusChecker

    ids = [str(number) for number in range(POLLS)]
    triggers = [CONTENDER.build(number, 5.0) for number in range(POLLS)]
    poller = await stack.enter_async_context(use_poller(CONN_ID))
    checkers = [
        StatusChecker(trigger.started, trigger.build_wait(), trigger.log, in_triggerer=True)
        for trigger in triggers
    ]
    bare = CheapestLoop(url)
    stack.push_async_callback(bare.close)
    await poller.get_task(ids[0], None)
    hook: Any = await poller._get_hook()
    requests = [hook.dialect.build_status(task_id) for task_id in ids]
    return {
        "the cheapest aiohttp loop": bare.poll,
        "client: key, deadline, limit of the body, secrets": lambda number: hook.async_client.send(
            requests[number], retries=False
        ),
        "hook: request built, state read": lambda number: hook.aget_task(ids[number], None),
        "shared poller: rate limit, circuit breaker, connection": lambda number: poller.get_task(
            ids[number], None
        ),
        "status check: wait policy, log": lambda number: checkers[number].acheck(poller),
    }


async def measure(url: str) -> list[tuple[str, float]]:
    """Return the microseconds of CPU that a poll takes with each layer."""
    async with AsyncExitStack() as stack:
        layers = await open_layers(url, stack)
        costs: dict[str, list[float]] = {name: [] for name in layers}
        for _ in range(ROUNDS):
            for name, poll in layers.items():
                before = time.process_time()
                for number in range(POLLS):
                    await poll(number)
                costs[name].append(1e6 * (time.process_time() - before) / POLLS)
        return [(name, min(found)) for name, found in costs.items()]


def main() -> int:
    """Measure, print the table and return the exit status."""
    build_parser("lab.benchmarks.measure_poll_layers", __doc__).parse_args()
    print(f"{describe_processors()}.\n", flush=True)
    with tempfile.TemporaryDirectory() as folder, run_mock_service(Path(folder)) as url:
        if len(PROCESSORS) > 1:
            os.sched_setaffinity(0, {PROCESSORS[1]})
        os.environ["AIRFLOW_HOME"] = folder
        os.environ[f"AIRFLOW_CONN_{CONN_ID.upper()}"] = json.dumps(CONTENDER.connect(url))
        found = asyncio.run(measure(url))
    before = [0.0, *(microseconds for _, microseconds in found)]
    rows = [
        (name, f"{microseconds:.0f}", f"{microseconds - earlier:.0f}")
        for (name, microseconds), earlier in zip(found, before, strict=False)
    ]
    print_table("One poll, without TLS and without sleeping", ("", "CPU µs with it", "it adds"), rows)
    return 0


if __name__ == "__main__":
    run_command(main)
