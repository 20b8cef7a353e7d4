"""
Sends thousands of generated replies through the hooks of both services, over real sockets.

    python -m lab.fuzz.replies [--count 2000] [--seed 1]

Counts faults: an exception that is not an AgentTaskError, a return value or exception that contains the key,
and a call that exceeds its deadline. The triggerer's calls share their event loop with polls of a healthy
task. The longest block of that event loop and the growth of the process are measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count as number_from
from itertools import islice
from typing import Any
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]

from airflow_agent_tasks.agent_task import AgentTask
from airflow_agent_tasks.client.retry_policy import ATTEMPTS
from airflow_agent_tasks.client.sync_client import SyncClient
from airflow_agent_tasks.errors import AgentTaskError
from airflow_agent_tasks.hooks.agent_task import AgentTaskHook
from airflow_agent_tasks.hooks.lightcone import LightconeHook
from airflow_agent_tasks.hooks.shinzo import ShinzoHook
from lab.command_line import build_parser, log_progress, print_table, run_command
from lab.fuzz.generated_replies import KEY, PROXY_PASSWORD, GeneratedReply, generate
from lab.fuzz.leaks import is_leaked
from lab.fuzz.process import Peak, RunQueue

TIMEOUT = 0.6
#: Seconds by which a call may exceed its deadline, because this machine is busy.
GRACE = 0.5
#: The limits of a healthy event loop and process.
MOST_STILL_MS, MOST_GROWTH_MB = 50.0, 200.0
#: Concurrent calls of a triggerer when its event loop is measured, and when its memory is.
FEW_AT_ONCE, MANY_AT_ONCE = 8, 100
WORKERS = 4


@dataclass
class Findings:
    """The results; the lists contain the faults."""

    calls: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    raw: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    unhealthy: list[str] = field(default_factory=list)
    still_cpu_ms: float = 0.0
    still_ms: float = 0.0
    still_wall_ms: float = 0.0
    growth_mb: float = 0.0

    def add(
        self,
        hook: AgentTaskHook,
        name: str,
        outcome: AgentTask | BaseException,
        seconds: float,
        attempts: int,
    ) -> None:
        """Judge the outcome of one call."""
        name = f"{hook.conn_type} {name}"
        self.calls += 1
        kind = type(outcome).__name__
        self.errors[kind] = self.errors.get(kind, 0) + 1
        if isinstance(outcome, AgentTask):
            text = json.dumps(outcome.to_json(), ensure_ascii=False) + str(outcome)
        else:
            text = "".join(traceback.format_exception(outcome))
            if not isinstance(outcome, AgentTaskError):
                self.raw.append(f"{name}: {text[-300:]}")
        if is_leaked(text, [KEY, PROXY_PASSWORD] if hook.settings.proxy else [KEY]):
            self.leaks.append(f"{name}: {text[-300:]}")
        if seconds > attempts * (TIMEOUT + GRACE):
            self.late.append(f"{name}: {seconds:.1f} s, {outcome!r:.200}")


@contextlib.contextmanager
def run_server(seed: int) -> Iterator[str]:
    """Run the server in another process; yields its URL."""
    command = [sys.executable, "-m", "lab.fuzz.reply_server", str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        try:
            port = process.stdout.readline().strip() if process.stdout else ""
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def build_hook(hook_class: type[AgentTaskHook], url: str, *, has_proxy: bool) -> AgentTaskHook:
    """Return a hook for the server, which is also the proxy; the hook does not wait between attempts."""
    name = hook_class.default_conn_name
    proxy = url.replace("//", f"//user:{quote(PROXY_PASSWORD, safe='')}@") if has_proxy else ""
    os.environ[f"AIRFLOW_CONN_{name.upper()}"] = json.dumps(
        {
            "conn_type": hook_class.conn_type,
            "host": url,
            "password": KEY,
            "extra": {"timeout": TIMEOUT, "agent_id": "agt_1", "proxy": proxy},
        }
    )
    hook = hook_class(name)
    hook.__dict__["_client"] = SyncClient(hook.settings, sleep=lambda seconds: None)
    return hook


def call_on_worker(hook: AgentTaskHook, number: int, findings: Findings) -> None:
    """Make the call with this number, and judge it."""
    task_id = f"fuzz-{number}-"
    start = {hook.dialect.instruction_field: task_id}
    calls: dict[str, Callable[[], AgentTask]] = {
        "start": lambda: hook.start_task(**start),
        "get": lambda: hook.get_task(task_id, retries=False),
        "message": lambda: hook.send_message(task_id, "Go on."),
        "stop": lambda: hook.stop_task(task_id, retries=False),
    }
    name = list(calls)[number % len(calls)]
    began = time.monotonic()
    try:
        outcome: AgentTask | BaseException = calls[name]()
    except Exception as error:
        outcome = error
    attempts = {"get": 1, "stop": 2}.get(name, ATTEMPTS)
    findings.add(hook, f"{name} {number}", outcome, time.monotonic() - began, attempts)


async def call_on_triggerer(hook: AgentTaskHook, number: int) -> tuple[Any, ...]:
    """Make a triggerer's call with this number; return the arguments for ``Findings.add``."""
    call = hook.aget_task if number % 4 else hook.astop_task
    began = time.monotonic()
    try:
        outcome: AgentTask | BaseException = await call(f"fuzz-{number}-", "agt_1")
    except Exception as error:
        outcome = error
    attempts = 1 if number % 4 else 2 * ATTEMPTS
    return hook, f"a{number}", outcome, time.monotonic() - began, attempts


async def measure_stand_still(findings: Findings) -> None:
    """
    Record the longest time for which the event loop was blocked.

    The wall-clock time includes waiting for other processes on this machine. Without it, the rest is the
    loop's own work and waiting for other threads of this process.
    """
    queue = RunQueue()
    while True:
        before, began, queued = time.thread_time(), time.monotonic(), queue.read()
        await asyncio.sleep(0.001)
        seconds, queued = time.monotonic() - began, queue.read() - queued
        findings.still_cpu_ms = max(findings.still_cpu_ms, (time.thread_time() - before) * 1_000)
        findings.still_ms = max(findings.still_ms, (seconds - queued) * 1_000)
        findings.still_wall_ms = max(findings.still_wall_ms, seconds * 1_000)


async def poll_healthy(hook: AgentTaskHook, findings: Findings) -> None:
    """
    Poll a healthy task on the connection of the hostile ones.

    Hostile replies may cause one failed poll: they send more than a response on a socket that is reused. A
    trigger then polls again, so only a second failure in a row counts.
    """
    has_failed = False
    while True:
        try:
            task = await hook.aget_task("healthy", "agt_1")
        except AgentTaskError as error:
            if has_failed:
                findings.unhealthy.append(str(error))
            has_failed = True
        else:
            has_failed = False
            if task.status != "running":
                findings.unhealthy.append(str(task))
        await asyncio.sleep(0.02)


async def run_triggerer(
    hooks: list[AgentTaskHook], numbers: Iterable[int], findings: Findings, at_once: int
) -> None:
    """Make these calls of a triggerer, at most ``at_once`` at the same time."""
    watchers = [asyncio.create_task(measure_stand_still(findings))]
    await asyncio.sleep(0)  # measures the opening too
    for hook in hooks:
        await hook.aopen()
        watchers.append(asyncio.create_task(poll_healthy(hook, findings)))
    slots = asyncio.Semaphore(at_once)

    async def call(number: int) -> tuple[Any, ...]:
        async with slots:
            return await call_on_triggerer(hooks[number % 2], number)

    calls = []
    for number in numbers:
        calls.append(asyncio.create_task(call(number)))
        await asyncio.sleep(0)  # triggers do not all start in one step of the event loop either
    outcomes = await asyncio.gather(*calls)
    for watcher in watchers:
        watcher.cancel()
    for result in await asyncio.gather(*watchers, return_exceptions=True):
        if isinstance(result, Exception):
            findings.raw.append(f"healthy: {result!r}")
    for hook in hooks:
        await hook.aclose()
    for outcome in outcomes:  # not earlier: it would block the measured event loop
        findings.add(*outcome)


def run(count: int = 2_000, seed: int = 1) -> int:
    """Send ``count`` requests, half from a worker, half from a triggerer; return the number of faults."""
    findings, half = Findings(), count // 2
    process = psutil.Process()
    with run_server(seed) as url:
        hooks = [build_hook(LightconeHook, url, has_proxy=False), build_hook(ShinzoHook, url, has_proxy=True)]
        asyncio.run(run_triggerer(hooks, range(half, half + 20), Findings(), 1))  # imports, pools, caches
        gc.collect()
        gc.freeze()  # a collection of everything that Airflow has imported takes 100 ms
        before, peak = process.memory_info().rss, Peak(process)
        log_progress("A triggerer's calls, a few at once ...")
        asyncio.run(run_triggerer(hooks, range(half, count), findings, FEW_AT_ONCE))
        log_progress("A hundred large replies at once ...")
        large = list(islice((n for n in number_from(count) if is_large(generate(seed, n))), MANY_AT_ONCE))
        asyncio.run(run_triggerer(hooks, large, findings, MANY_AT_ONCE))
        findings.growth_mb = (peak.stop() - before) / 1e6
        log_progress("A worker's calls ...")
        with ThreadPoolExecutor(WORKERS) as threads:
            list(
                threads.map(
                    lambda number: call_on_worker(hooks[number // 4 % 2], number, findings), range(half)
                )
            )
    return report(findings)


def is_large(reply: GeneratedReply) -> bool:
    """Return whether the reply costs a client much time or memory."""
    return len(reply.data) > 1_000_000 or (
        b"Content-Encoding: gzip" in reply.data and len(reply.data) > 1_000
    )


def report(findings: Findings) -> int:
    """Print the findings, and return the number of faults."""
    for title, found in (
        *(("raw", findings.raw), ("leak", findings.leaks), ("late", findings.late)),
        ("healthy", findings.unhealthy),
    ):
        for text in found[:5]:
            print(f"{title}: {text}")
    rows: list[tuple[str, Any, Any]] = [
        ("calls", findings.calls, "-"),
        ("raw exceptions", len(findings.raw), 0),
        ("secrets leaked", len(findings.leaks), 0),
        ("calls that exceeded their deadline", len(findings.late), 0),
        ("polls of a healthy task that failed twice", len(findings.unhealthy), 0),
        ("longest block of the event loop, ms of CPU", round(findings.still_cpu_ms, 1), MOST_STILL_MS),
        ("the same, including waiting for other threads, ms", round(findings.still_ms, 1), MOST_STILL_MS),
        ("the same, including waiting for other processes, ms", round(findings.still_wall_ms, 1), "-"),
        ("growth of the process, MB", round(findings.growth_mb), MOST_GROWTH_MB),
    ]
    print_table(["outcome", "calls"], sorted(findings.errors.items()))
    print()
    print_table(["what", "found", "at most"], rows)
    return sum(found > most for _, found, most in rows[1:] if isinstance(most, int | float))


def main() -> int:
    parser = build_parser("lab.fuzz.replies", __doc__)
    parser.add_argument("--count", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    return min(1, run(options.count, options.seed))


if __name__ == "__main__":
    run_command(main)
