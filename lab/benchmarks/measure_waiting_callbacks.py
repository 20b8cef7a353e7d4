"""
Measures what ten thousand tasks that have waited for an hour cost Airflow and the service.

The rows: only Airflow runs; the tasks have a trigger of Airflow's own that only sleeps, which is the least
that Airflow itself needs for them; they poll at the default interval, which is 27 to 30 seconds by then; they
have callbacks. First all tasks wait, then one after the other ends. The event is the change of the task's row
with which Airflow resumes it. The figures per hour are extrapolated; the lines below the table show how.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import requests

from lab.benchmarks.api_server_load import Caller, read_cpu
from lab.benchmarks.contenders import CALLED_BACK
from lab.benchmarks.database import Database
from lab.benchmarks.markdown_table import print_table
from lab.benchmarks.percentile import describe
from lab.benchmarks.waiting_triggerer import TASKS_PER_RUN, WaitingTriggerer, run_airflow
from lab.cluster.processes import wait_until
from lab.command_line import build_parser, log_progress, run_command

IDLE = "idle"
SLEEPER = "sleeper"
TITLES = {
    IDLE: "nothing waits",
    SLEEPER: "Airflow's own trigger, which only sleeps",
    "polled": "polling at the default interval",
    CALLED_BACK: "with callbacks",
}
HEADINGS = (
    *("", "status requests per hour", "CPU s per hour of the triggerer"),
    *("CPU s per hour of the API server, one end per task", "end to event s p50 / p99 / max"),
)
HOUR = 3600.0
#: Seconds for all triggers to start, and then for the peak of the start to pass.
START_TIMEOUT = 1200.0
#: The peak has passed once the triggerer needs no less CPU than in this many seconds before, but for noise.
SETTLING = 30.0
NOISE = 0.9
#: The share of a core above which a triggerer is still busy, whatever it needed before.
BUSY = 0.9
#: Seconds until a polled task surely has its event.
EVENT_TIMEOUT = 60.0


class Snapshot(NamedTuple):
    """What has been counted up to one moment; CPU in seconds."""

    at: float
    polls: float
    triggerer_cpu: float
    server_cpu: float


class Costs(NamedTuple):
    """
    What waiting costs; CPU in seconds.

    :param seconds: How long the waiting was watched.
    :param polls: Status requests in that time.
    :param triggerer_cpu: CPU of both processes of the triggerer in that time.
    :param server_cpu_per_end: CPU of the API server for the end of each task.
    :param delays: Seconds from the end of each task to its event.
    """

    seconds: float
    polls: float
    triggerer_cpu: float
    server_cpu_per_end: float
    delays: list[float]


class Watcher:
    """
    Measures a triggerer with many waiting tasks from outside.

    :param triggerer: The triggerer.
    :param tasks: The number of its tasks.
    :param seconds: How long to watch the waiting, in seconds.
    :param events: The number of tasks that end, one per second.
    """

    def __init__(self, triggerer: WaitingTriggerer, tasks: int, seconds: float, events: int) -> None:
        self._triggerer = triggerer
        self._cluster = triggerer.cluster
        self._database = Database(triggerer.cluster)
        self._tasks = tasks
        self._seconds = seconds
        self._events = events

    def start(self) -> None:
        """Defer the tasks, start the triggerer and wait until it runs all triggers."""
        # The probe silences the triggerer's line about the start of each trigger.
        self._triggerer.defer(self._tasks, 0.0, has_probe=True)
        self._triggerer.start()
        if not wait_until(
            lambda: self._database.count_running_triggers() > self._tasks, timeout=START_TIMEOUT, interval=1.0
        ):
            raise SystemExit(f"only {self._database.count_running_triggers()} triggers were started")
        for task in self._triggerer.list_tasks()[-1:]:
            if task.url:
                # The first call makes the API server import and compile what the others need.
                requests.post(task.url, timeout=30)
        self._settle()

    def _settle(self) -> None:
        """Wait until the peak of the start has passed: Airflow opens a log for each trigger, for minutes."""

        def measure_cpu() -> float:
            begin = read_cpu(self._cluster.programs["triggerer"])
            time.sleep(SETTLING)
            return read_cpu(self._cluster.programs["triggerer"]) - begin

        deadline = time.monotonic() + START_TIMEOUT
        before, now = measure_cpu(), measure_cpu()
        while now < NOISE * before or now > BUSY * SETTLING:
            if time.monotonic() > deadline:
                raise SystemExit(f"the triggerer still needs {now:.0f} s of CPU in {SETTLING:.0f} s")
            before, now = now, measure_cpu()

    def measure(self, name: str) -> Costs:
        """Watch the waiting and then the ends, and return the costs."""
        tasks = self._triggerer.list_tasks()
        begin = self._take_snapshot()
        time.sleep(self._seconds)
        waiting = self._take_snapshot()
        ends = self._call() if name == CALLED_BACK else self._finish()
        self._wait_for_events()
        after = self._take_snapshot()
        rows = self._database.read_tasks()
        ended = [rows[task.task_id] for task in tasks[: self._events]]
        seconds = waiting.at - begin.at
        idle = (waiting.server_cpu - begin.server_cpu) / seconds
        extra = after.server_cpu - waiting.server_cpu - idle * (after.at - waiting.at)
        return Costs(
            seconds,
            waiting.polls - begin.polls,
            waiting.triggerer_cpu - begin.triggerer_cpu,
            max(0.0, extra) / self._events if self._events else 0.0,  # less than nothing is noise
            [row.updated_at - at for row, at in zip(ended, ends, strict=True) if row.state == "scheduled"],
        )

    def _take_snapshot(self) -> Snapshot:
        programs = self._cluster.programs
        return Snapshot(
            time.monotonic(),
            self._triggerer.service.read_counts()["polls"],
            read_cpu(programs["triggerer"]),
            read_cpu(programs["api-server"]),
        )

    def _call(self) -> list[float]:
        """Call the first tasks, one per second, and return when, in seconds since 1970."""
        caller = Caller(self._cluster)
        caller.start([task.url for task in self._triggerer.list_tasks()[: self._events]], self._events)
        return [call.sent_at for call in caller.wait()]

    def _finish(self) -> list[float]:
        """Let the first tasks end, one per second, and return when, in seconds since 1970."""
        begin = time.monotonic() + 1
        at = time.time() + begin - time.monotonic()
        self._triggerer.service.finish(begin, self._tasks, max(1, self._tasks))
        return [at + number for number in range(self._events)]

    def _wait_for_events(self) -> None:
        """Wait until the first tasks have their events."""
        tasks = self._triggerer.list_tasks()[: self._events]

        def are_all_resumed() -> bool:
            rows = self._database.read_tasks()
            return all(rows[task.task_id].state == "scheduled" for task in tasks)

        wait_until(are_all_resumed, timeout=self._events + EVENT_TIMEOUT, interval=2.0)


def measure(name: str, tasks: int, seconds: float, events: int) -> Costs:
    """Let a triggerer wait for the tasks, and return the costs."""
    log_progress(f"{TITLES[name]}: starting Airflow (about 30 s) ...")
    environment = {
        "AIRFLOW__TRIGGERER__CAPACITY": str(2 * tasks + 1),
        "AIRFLOW__TRIGGERER__MAX_TRIGGER_TO_SELECT_PER_LOOP": str(TASKS_PER_RUN),
    }
    with run_airflow(CALLED_BACK if name == IDLE else name, environment) as triggerer:
        watcher = Watcher(triggerer, tasks, seconds, events)
        watcher.start()
        log_progress(f"{TITLES[name]}: {tasks:,} tasks wait ...")
        return watcher.measure(name)


def print_waiting_callbacks(tasks: int = 10_000, seconds: float = 120.0, events: int = 60) -> None:
    """
    Measure, and print the table and the arithmetic.

    :param tasks: How many tasks wait, a multiple of ``TASKS_PER_RUN``; default 10,000.
    :param seconds: For how long the waiting is watched; default 120.
    :param events: How many tasks end, one per second; default 60.
    """
    found = {
        IDLE: measure(IDLE, 0, seconds, 0),
        SLEEPER: measure(SLEEPER, tasks, seconds, 0),
        **{name: measure(name, tasks, seconds, events) for name in ("polled", CALLED_BACK)},
    }
    rows = [
        (
            TITLES[name],
            f"{one.polls * HOUR / one.seconds:,.0f}",
            f"{one.triggerer_cpu * HOUR / one.seconds:,.0f}",
            f"{one.server_cpu_per_end * tasks:,.0f}",
            describe(one.delays, 2),
        )
        for name, one in found.items()
    ]
    print()
    print_table(f"{tasks:,} tasks wait in a real triggerer", HEADINGS, rows)
    for name, one in found.items():
        factor = f"times 3,600 / {one.seconds:.0f}"
        print(
            f"- {TITLES[name]}: {one.polls:,.0f} status requests and {one.triggerer_cpu:.2f} s of CPU in "
            f"{one.seconds:.0f} s, {factor}; {1000 * one.server_cpu_per_end:.1f} ms of the API server "
            f"per end, times {tasks:,}; {len(one.delays)} events"
        )
    print(flush=True)


def main() -> int:
    """Measure, print the table and return the exit status."""
    parser = build_parser("lab.benchmarks.measure_waiting_callbacks", __doc__)
    parser.add_argument(
        "--tasks", type=int, default=10_000, help="tasks that wait, in thousands; default 10,000"
    )
    parser.add_argument("--seconds", type=float, default=120, help="seconds of waiting; default 120")
    parser.add_argument("--events", type=int, default=60, help="tasks that end, one a second; default 60")
    given = parser.parse_args()
    print_waiting_callbacks(given.tasks, given.seconds, given.events)
    return 0


if __name__ == "__main__":
    run_command(main)
