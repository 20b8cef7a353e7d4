"""
Measures what a storm of calls does to an Airflow's API server, its database and the people who use its UI.

3,000 tasks are deferred, while no scheduler and no triggerer runs, so that nothing else writes. The phases:

1. someone requests the list of DAGs ten times a second, and nothing else happens;
2. forged calls alone, as many per second as in the storm: each is the URL of a task with a wrong signature;
3. genuine calls alone, for another thousand tasks;
4. the storm: a genuine call for each of a thousand tasks, the forged calls, and the requests of phase 1.

A task is woken once its row says so. Exits with 0 only if every called task was woken and no other task
changed, the forged calls alone wrote nothing, and the page took less than twice as long in the storm.
"""

from __future__ import annotations

import argparse
import random
import secrets
import time
from collections.abc import Sequence
from typing import Any

from lab.benchmarks.api_server_load import Caller, read_cpu, time_page
from lab.benchmarks.contenders import CALLED_BACK
from lab.benchmarks.database import DATABASES, Database, TaskRow
from lab.benchmarks.markdown_table import print_table
from lab.benchmarks.percentile import describe, percentile
from lab.benchmarks.send_calls import Call
from lab.benchmarks.waiting_triggerer import TASKS_PER_RUN, DeferredTask, WaitingTriggerer, run_airflow
from lab.cluster.processes import Program, wait_until
from lab.command_line import build_parser, log_progress, run_command

#: Seconds of the first phase, and of the rest before it.
QUIET_SECONDS = 20.0
START_TIMEOUT = 120.0
#: Seconds without a task woken after which no further one is expected.
LAST_WAKE_TIMEOUT = 30.0
#: The part of a URL that is replaced with another text to forge it.
FORGED_CHARACTERS = 10
ACCEPTED = 202


class Storm:
    """
    The phases in one Airflow, and what they showed.

    :param airflow: The Airflow.
    :param given: The number of calls, and their seconds.
    """

    def __init__(self, airflow: WaitingTriggerer, given: argparse.Namespace) -> None:
        self._cluster = airflow.cluster
        self._server = self._restart_api_server()
        self._database = Database(self._cluster)
        self._caller = Caller(self._cluster)
        self._given = given
        tasks = airflow.list_tasks()
        self._alone, self._called = tasks[: given.calls], tasks[TASKS_PER_RUN : TASKS_PER_RUN + given.calls]
        self._uncalled = tasks[2 * TASKS_PER_RUN :]
        self.rows: list[tuple[str, Any]] = []
        self.is_right = True

    def run(self) -> None:
        """Go through the phases."""
        self._database.settle()
        # Longer than Airflow's resume guard.
        time.sleep(QUIET_SECONDS)
        log_progress("The page alone ...")
        ends_at = time.monotonic() + QUIET_SECONDS
        before = time_page(self._cluster, lambda: time.monotonic() >= ends_at)
        self._forge_alone()
        self._call_alone()
        self._storm(before)

    def _restart_api_server(self) -> Program:
        """Restart the API server as one that does not make a new token of an admin for every request."""
        # With the token that it already has, the client remains an admin.
        self._cluster.environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] = "False"
        self._cluster.stop_program("api-server")
        server = self._cluster.start_component("api-server")
        if not wait_until(lambda: bool(self._cluster.api.read_health()), timeout=START_TIMEOUT):
            raise SystemExit(f"the API server did not start again. {server.describe_log_end()}")
        return server

    def _forge_alone(self) -> None:
        log_progress("Forged calls alone ...")
        idle = self._database.count_writes()
        time.sleep(self._given.seconds)
        before, cpu = self._database.count_writes(), read_cpu(self._server)
        forged = self._forge()
        self._caller.start(forged, self._given.seconds)
        calls = self._caller.wait()
        # Longer than any work that they may have left to the background.
        time.sleep(self._given.seconds)
        written = self._database.count_writes() - before
        used = read_cpu(self._server) - cpu
        self._check_answers(calls)
        self._note("forged calls alone: transactions that wrote", written, is_right=written == 0)
        self._note("the same time without calls: transactions that wrote", before - idle)
        self._note("CPU ms of the API server per forged call", f"{1000 * used / len(calls):.2f}")

    def _call_alone(self) -> None:
        log_progress("Genuine calls alone ...")
        cpu = read_cpu(self._server)
        self._caller.start([task.url for task in self._alone], self._given.seconds)
        calls = self._caller.wait()
        self._wait_until_woken(len(self._alone))
        used = read_cpu(self._server) - cpu
        delays = self._list_delays(self._alone, calls)
        self._note("genuine calls alone: call to wake s p50 / p99 / max", describe(delays, 3))
        self._note("CPU ms of the API server per genuine call", f"{1000 * used / len(calls):.1f}")

    def _storm(self, before: Sequence[float]) -> None:
        log_progress("The storm ...")
        forged, genuine = self._forge(), [task.url for task in self._called]
        urls = [*forged, *genuine]
        random.shuffle(urls)
        began = time.monotonic()
        self._caller.start(urls, self._given.seconds)
        during = time_page(self._cluster, lambda: self._caller.has_ended)
        sending = time.monotonic() - began
        calls = dict(zip(urls, self._caller.wait(), strict=True))
        self._wait_until_woken(len(self._alone) + len(self._called))
        self._check_answers(list(calls.values()))
        delays = self._list_delays(self._called, [calls[url] for url in genuine])
        rows = self._database.read_tasks()
        changed = sum(rows[task.task_id].state != "deferred" for task in self._uncalled)
        answers = [1000 * call.seconds for call in calls.values()]
        slower = percentile(during, 0.5) / percentile(before, 0.5)
        slowest = percentile(during, 0.99) / percentile(before, 0.99)
        self._note("storm: calls, of them genuine", f"{len(calls):,} / {len(genuine):,}")
        self._note("storm: seconds until all calls were answered", f"{sending:.1f}")
        self._note("storm: answer to a call ms p50 / p99 / max", describe(answers, 0))
        self._note("storm: tasks woken", len(delays), is_right=len(delays) == len(genuine))
        self._note("storm: call to wake s p50 / p99 / max", describe(delays, 3))
        self._note("tasks changed that nobody called", changed, is_right=changed == 0)
        self._note("page before ms p50 / p99 / max", describe(before, 0))
        self._note("page during the storm ms p50 / p99 / max", describe(during, 0))
        self._note("times slower p50 / p99", f"{slower:.1f} / {slowest:.1f}", is_right=slower < 2)

    def _forge(self) -> list[str]:
        """Return the URLs of tasks that nobody calls, with wrong signatures."""
        urls = [self._uncalled[number % len(self._uncalled)].url for number in range(self._given.forged)]
        return [url[:-FORGED_CHARACTERS] + secrets.token_hex(FORGED_CHARACTERS // 2) for url in urls]

    def _wait_until_woken(self, count: int) -> None:
        """Wait until so many tasks have been woken in all, or until no more are."""
        woken, changed_at = 0, time.monotonic()

        def is_over() -> bool:
            nonlocal woken, changed_at
            if (found := self._database.count_states("scheduled")) != woken:
                woken, changed_at = found, time.monotonic()
            return woken >= count or time.monotonic() - changed_at > LAST_WAKE_TIMEOUT

        wait_until(is_over, timeout=float("inf"), interval=0.5)

    def _list_delays(self, tasks: Sequence[DeferredTask], calls: Sequence[Call]) -> list[float]:
        """Return the seconds from the call to the wake, for each task that was woken."""
        rows = self._database.read_tasks()
        return [
            rows[task.task_id].updated_at - call.sent_at
            for task, call in zip(tasks, calls, strict=True)
            if is_woken(rows[task.task_id])
        ]

    def _check_answers(self, calls: Sequence[Call]) -> None:
        others = [call.status for call in calls if call.status != ACCEPTED]
        if others:
            self._note(f"calls not answered with {ACCEPTED}", len(others), is_right=False)

    def _note(self, title: str, value: Any, *, is_right: bool = True) -> None:
        self.rows.append((title, value))
        self.is_right = self.is_right and is_right


def is_woken(row: TaskRow) -> bool:
    """Return whether a task is about to resume because of a call."""
    return row.state == "scheduled" and row.is_called


def main() -> int:
    """Measure on each database, print a table for each and return the exit status."""
    parser = build_parser("lab.benchmarks.measure_callback_storm", __doc__)
    parser.add_argument("databases", nargs="*", metavar="DATABASE", help=f"of {', '.join(DATABASES)}")
    parser.add_argument("--calls", type=int, default=1000, help="genuine calls, at most 1,000; default 1,000")
    parser.add_argument("--forged", type=int, default=10_000, help="forged calls; default 10,000")
    parser.add_argument("--seconds", type=float, default=10, help="seconds of each phase; default 10")
    given = parser.parse_args()
    if unknown := sorted(set(given.databases) - set(DATABASES)):
        parser.error(f"no such database: {', '.join(unknown)}")
    is_right = True
    for name in given.databases or DATABASES:
        log_progress(f"{DATABASES[name]}: starting Airflow (about 30 s) ...")
        with run_airflow(CALLED_BACK, {}, database=name) as airflow:
            airflow.defer(3 * TASKS_PER_RUN, 0.0)
            airflow.cluster.stop_program("dag-processor")
            storm = Storm(airflow, given)
            storm.run()
        print()
        print_table(f"A storm of calls, {DATABASES[name]}", ("", ""), storm.rows)
        is_right = is_right and storm.is_right
    return 0 if is_right else 1


if __name__ == "__main__":
    run_command(main)
