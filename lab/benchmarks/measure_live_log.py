"""
Measures what the live log costs a real triggerer: its tasks wait, and the step of each changes every few
seconds.

Prints as JSON, without and with steps, for ``SECONDS`` in which all tasks wait: the CPU of the triggerer's
event loop per poll, its lag, how often Airflow found it blocked, the log lines and XCom pushes per second
that reached Airflow, and the CPU of the supervisor, the triggerer's other process, whose one thread takes
them.
"""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

from lab.benchmarks.percentile import percentile
from lab.benchmarks.waiting_triggerer import TASKS_PER_RUN, WaitingTriggerer, run_airflow
from lab.cluster.processes import wait_until
from lab.command_line import build_parser, run_command

INTERVAL = 10.0
SECONDS = 60.0
#: Seconds for all triggers to start and poll, and then for the peak of the start to pass.
START_TIMEOUT = 1200.0
SETTLING = 30.0


class Snapshot(NamedTuple):
    """What has been counted up to one moment."""

    at: float
    polls: float
    blocked: int
    lines: int
    supervisor_cpu: float


class Watcher:
    """
    Measures a triggerer with many waiting tasks from outside.

    :param triggerer: The triggerer.
    """

    def __init__(self, triggerer: WaitingTriggerer) -> None:
        self._triggerer = triggerer
        self._cluster = triggerer.cluster

    def start(self, tasks: int) -> None:
        """Defer the tasks, start the triggerer and wait until each task has been polled."""
        service = self._triggerer.service
        self._triggerer.defer(tasks, INTERVAL, has_probe=True)
        self._triggerer.start()
        if not wait_until(
            lambda: service.read_counts()["polled"] >= tasks, timeout=START_TIMEOUT, interval=1.0
        ):
            raise SystemExit(f"not all tasks were polled: {service.read_counts()}")
        time.sleep(SETTLING)

    def measure(self, tasks: int) -> dict[str, object]:
        """Watch it for ``SECONDS``, and return the costs."""
        before = self._take_snapshot()
        time.sleep(SECONDS)
        after = self._take_snapshot()
        cpu, lags = self._read_probe(before.at, after.at)
        seconds, polls = after.at - before.at, after.polls - before.polls
        return {
            "cpu_ms": 1000 * cpu / polls,
            "share": polls / (tasks * seconds / INTERVAL),
            "lag_ms": [1000 * percentile(lags, share) for share in (0.5, 0.99, 1.0)],
            "blocked": after.blocked - before.blocked,
            "lines": (after.lines - before.lines) / seconds,
            "pushes": self._count_pushes(seconds) / seconds,
            "supervisor": (after.supervisor_cpu - before.supervisor_cpu) / seconds,
        }

    def _take_snapshot(self) -> Snapshot:
        supervisor = psutil.Process(self._cluster.programs["triggerer"].leader.pid).cpu_times()
        return Snapshot(
            time.monotonic(),
            self._triggerer.service.read_counts()["polls"],
            self._triggerer.metrics.blocked,
            sum(path.read_bytes().count(b", step ") for path in self._list_logs()),
            supervisor.user + supervisor.system,
        )

    def _list_logs(self) -> list[Path]:
        return list((self._cluster.home / "logs").rglob("*.trigger.*"))

    def _read_probe(self, since: float, until: float) -> tuple[float, list[float]]:
        """Return the CPU seconds of the event loop's process between two times, and its lags."""
        lines = [json.loads(line) for line in self._triggerer.probe_path.read_text().splitlines()]
        inside = [line for line in lines if since <= line[0] <= until]
        per_second = (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])
        return per_second * (until - since), [lag for line in inside for lag in line[2]]

    def _count_pushes(self, seconds: float) -> int:
        """Return how many tasks have pushed their progress in the last seconds."""
        with closing(sqlite3.connect(self._cluster.home / "airflow.db")) as database:
            query = "select count(*) from xcom where key = 'progress' and timestamp >= datetime('now', ?)"
            return int(database.execute(query, [f"-{seconds:.0f} seconds"]).fetchone()[0])


def measure(tasks: int, step_seconds: float) -> dict[str, object]:
    """Let a triggerer wait for the tasks, and return the costs while their steps change and before."""
    environment = {
        "AIRFLOW__TRIGGERER__CAPACITY": str(2 * tasks),
        "AIRFLOW__TRIGGERER__MAX_TRIGGER_TO_SELECT_PER_LOOP": str(TASKS_PER_RUN),
    }
    with run_airflow("progress", environment) as triggerer:
        watcher = Watcher(triggerer)
        watcher.start(tasks)
        without = watcher.measure(tasks)
        triggerer.service.change_steps(step_seconds)
        time.sleep(SETTLING)
        return {"without": without, "with": watcher.measure(tasks)}


def main() -> int:
    """Measure, print the costs and return the exit status."""
    parser = build_parser("lab.benchmarks.measure_live_log", __doc__)
    parser.add_argument("tasks", type=int, help=f"how many tasks wait, a multiple of {TASKS_PER_RUN:,}")
    parser.add_argument("step_seconds", type=float, help="seconds between two steps of a task")
    given = parser.parse_args()
    print(json.dumps(measure(given.tasks, given.step_seconds)))
    return 0


if __name__ == "__main__":
    run_command(main)
