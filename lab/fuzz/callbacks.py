"""
``python -m lab.fuzz.callbacks``: call the receiver of callbacks in a real API server, and look for faults.

It sends thousands of calls with tokens of tasks in all states, forged, damaged and expired tokens, and odd
paths, headers and bodies. A fault is a 500, a traceback in the server's log, a call without a response, a
task that fails over it, or a response that differs by the token. Then it measures the response times by class
of token, and prints them. Exits with 0 only if there are no faults. Takes three minutes.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from contextlib import ExitStack

from airflow_agent_tasks.callbacks.settings import PATH
from lab.cluster.postgresql import create_database, run_postgresql
from lab.command_line import build_parser, log_progress, print_table, run_command
from lab.fuzz.callback_requests import CallGenerator
from lab.fuzz.route_cluster import DAG_ID, WANTED, FuzzedAirflow, run_cluster
from lab.fuzz.route_requests import build_request
from lab.fuzz.routes import SEED, Findings, compute_rank_deviation, print_findings, send, send_all

COUNT = 6_500
#: Calls of each class whose times are measured.
TIMED = 150
#: States of the tasks that a callback may wake, besides those in which they wait.
WOKEN = ("scheduled", "queued", "running")


def run(count: int = COUNT, seed: int = SEED, database_url: str | None = None) -> int:
    """
    Send the calls, print the tables and return the number of faults.

    :param count: The number of calls, besides those whose time is measured.
    :param seed: The same seed generates the same calls.
    :param database_url: An empty PostgreSQL database; default a SQLite file.
    """
    log_progress("Starting Airflow (about 60 s) ...")
    with run_cluster(database_url) as fuzzed:
        cluster, tokens = fuzzed.cluster, fuzzed.callback_tokens
        log_file = cluster.log_folder / "api-server.log"
        size_before = log_file.stat().st_size
        generator = CallGenerator(seed, cluster.environment["AIRFLOW__CORE__FERNET_KEY"], tokens)
        log_progress(f"Sending {count} calls (seed {seed}) ...")
        findings = asyncio.run(send_all(cluster, list(generator.generate(count))))
        log_progress(f"Measuring {TIMED} calls of each class ...")
        times = asyncio.run(measure_times(fuzzed, generator, seed))
        findings["the tasks"] = check_tasks(fuzzed)
        log = log_file.read_bytes()[size_before:].decode(errors="replace")
    tracebacks = log.count("Traceback (most recent call last)")
    findings["the server's log"] = Findings(Counter({"tracebacks": tracebacks}), ["traceback"] * tracebacks)
    findings["tasks woken"] = Findings(Counter({"in the log": log.count("Woke task ")}))
    faults = print_findings(findings)
    print_times(times)
    return faults


async def measure_times(fuzzed: FuzzedAirflow, generator: CallGenerator, seed: int) -> dict[str, list[float]]:
    """Return the response times in milliseconds by class of token, of calls one after the other."""
    times: dict[str, list[float]] = {name: [] for name in generator.classes}
    names, order = list(times), random.Random(seed)  # noqa: S311 - not for secrets
    for _ in range(TIMED):
        # Shuffled, so that other load on the machine affects all equally.
        order.shuffle(names)
        for name in names:
            data = build_request("POST", PATH + generator.classes[name](), "{}")
            began = time.perf_counter()
            await send(fuzzed.cluster, data)
            times[name].append((time.perf_counter() - began) * 1000)
    return times


def check_tasks(fuzzed: FuzzedAirflow) -> Findings:
    """Return the states of the tasks; a fault for each that is not as its agent task is."""
    found = Findings()
    for task in fuzzed.cluster.api.list_tasks(DAG_ID, fuzzed.tasks[0].run_id):
        label = f"{task.task_id} is {task.state}, try {task.tries}"
        found.statuses[label] += 1
        allowed = {WANTED[task.task_id], *(() if task.task_id == "ended" else WOKEN)}
        if task.state not in allowed or task.tries != 1:
            found.faults.append(label)
    return found


def print_times(times: dict[str, list[float]]) -> None:
    """Print the times by class, and how they rank beside those of all other classes."""
    rows = []
    for name, of_class in times.items():
        others = [value for other, values in times.items() if other != name for value in values]
        deciles = statistics.quantiles(of_class, n=10)
        figures = (f"{value:.2f}" for value in (statistics.median(of_class), deciles[0], deciles[8]))
        rows.append((name, len(of_class), *figures, f"{compute_rank_deviation(of_class, others):+.1f}"))
    print()
    print_table(("token", "calls", "median ms", "10 %", "90 %", "ranks, deviations"), rows)


def main() -> int:
    """Parse the command line, run, and return the exit status."""
    parser = build_parser("lab.fuzz.callbacks", __doc__)
    parser.add_argument("--count", type=int, default=COUNT, help=f"number of calls; default {COUNT}")
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed of the calls; default {SEED}")
    parser.add_argument(
        "--database", choices=("sqlite", "postgresql"), default="sqlite", help="default sqlite"
    )
    arguments = parser.parse_args()
    with ExitStack() as servers:
        is_served = arguments.database == "postgresql"
        url = create_database(servers.enter_context(run_postgresql())) if is_served else None
        return 1 if run(arguments.count, arguments.seed, url) else 0


if __name__ == "__main__":
    run_command(main)
