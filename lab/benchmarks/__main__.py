"""
``make bench``: measure what waiting and streaming cost, beside other clients, and print tables in Markdown.

Takes more than an hour and reports progress on standard error. Each contender has its own process and
processor, and so does the mock service; the first line warns if the machine does not have two processors.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.benchmarks.contenders import CONTENDERS
from lab.benchmarks.markdown_table import print_table
from lab.benchmarks.measure_streaming import EVENTS, HEADINGS
from lab.benchmarks.measure_streaming import measure as measure_streaming
from lab.benchmarks.measure_waiting_callbacks import print_waiting_callbacks
from lab.benchmarks.mock_service_process import run_mock_service
from lab.benchmarks.processors import describe_processors, pin
from lab.benchmarks.simulate_polls import simulate
from lab.benchmarks.tls_certificate import build_trust_variables, write_certificate
from lab.cluster.processes import Program
from lab.command_line import build_parser, run_command
from lab.paths import ROOT
from lab.peer_providers import PEERS_FOLDER, require_peers

BARE = "bare"
TITLES = {BARE: "bare aiohttp loop", **{name: contender.title for name, contender in CONTENDERS.items()}}
#: (tasks, seconds between two polls of a task)
SIZES = ((200, 5.0), (2000, 5.0), (10000, 10.0))
WAITERS = (BARE, "ours", "dbt", "http", "anthropic")
#: Without TLS, a new connection is cheaper, but no service on the internet offers that.
PLAIN_WAITERS = (BARE, "ours", "dbt", "http")
STARTERS = [(name, level) for level in ("INFO", "WARNING") for name in ("sleeper", "ours", "dbt")]
#: How long a contender is measured: many rounds, even if a round takes far longer than the interval.
MEASURED_SECONDS = 60.0
CONTENDER_TIMEOUT = 900.0
#: The tasks whose live log is measured, and the seconds between two steps of each.
LOGGED_TASKS = 10_000
STEP_SECONDS = 5.0
#: Seconds for a program to stop what it started, such as an Airflow.
CLEAN_UP_SECONDS = 30.0


def main() -> int:
    """Measure everything, print the tables and return the exit status."""
    build_parser("lab.benchmarks", __doc__).parse_args()
    require_peers()
    print(f"{platform.python_implementation()} {platform.python_version()}, {describe_processors()}.\n")
    with tempfile.TemporaryDirectory() as name:
        certificate = Path(name) / "service.pem"
        write_certificate(certificate)
        for tasks, interval in SIZES:
            title = f"{tasks:,} tasks, each polled every {interval:.0f} s"
            print_waiting(title, tasks, interval, WAITERS, certificate)
        print_waiting("2,000 tasks every 5 s, without TLS", 2000, 5.0, PLAIN_WAITERS, None)
    print_requests()
    print_triggerer_start()
    print_table(f"A stream of {EVENTS:,} events on a worker", HEADINGS, measure_streaming())
    print_live_log()
    print_waiting_callbacks()
    return 0


def print_waiting(
    title: str, tasks: int, interval: float, names: Sequence[str], certificate: Path | None
) -> None:
    """Measure the contenders one after the other, and print a table."""
    found = [wait_for_many(name, tasks, interval, certificate) for name in names]
    cpu_of_bare = found[0]["cpu_ms"]
    rows = [
        (
            TITLES[one["name"]],
            f"{one['cpu_ms']:.2f}",
            f"{one['cpu_ms'] / cpu_of_bare:.2f}",
            f"{one['share']:.0%}",
            f"{one['connections']:.3f}",
            f"{one['rss_mb']:.0f}",
            " / ".join(f"{lag:.0f}" for lag in one["lag_ms"]),
            " / ".join(f"{late:.1f}" for late in one["late"]),
            f"{one['ended'] / tasks:.0%}",
        )
        for one in found
    ]
    headings = (
        *("", "CPU ms per poll", "times bare", "polls done", "connections per poll", "MiB"),
        *("loop lag ms p50 / p99 / max", "end to event s p50 / p99", "events"),
    )
    print_table(title, headings, rows)


def print_requests() -> None:
    rows = []
    for minutes in (1, 10, 60):
        fixed, growing = simulate(60.0 * minutes, 5.0), simulate(60.0 * minutes, None)
        rows.append(
            (
                f"{minutes} min",
                f"{fixed.requests:.0f}",
                f"{growing.requests:.0f}",
                f"{growing.requests / fixed.requests:.0%}",
                " / ".join(f"{late:.1f}" for late in growing.late),
                f"{growing.late_beyond:.1f}",
            )
        )
    headings = (
        *("length of the run", "requests at a fixed 5 s", "requests with the growing interval"),
        *("share of the fixed", "end seen late, seconds p50 / p99", "p99 of the part beyond 5 % of the run"),
    )
    print_table("Requests until the end is seen, simulated", headings, rows)


def print_triggerer_start() -> None:
    rows = []
    for name, log_level in STARTERS:
        one = run("lab.benchmarks.measure_triggerer_start", [name, log_level])
        last = one["last_polled_after"]
        rows.append(
            (
                TITLES[name],
                log_level,
                one["lookups"],
                "" if last is None else f"{last:.0f}",
                one["polled"],
                one["blocked"],
            )
        )
    headings = (
        "",
        "log level",
        "lookups",
        "seconds until every task has polled",
        "tasks polled",
        "loop blocked",
    )
    print_table("1,000 triggers of one connection start at once in a real triggerer", headings, rows)


def print_live_log() -> None:
    found = run("lab.benchmarks.measure_live_log", [LOGGED_TASKS, STEP_SECONDS])
    without, with_steps = found["without"], found["with"]
    rows = [
        (
            title,
            f"{one['cpu_ms']:.2f}",
            f"{one['cpu_ms'] / without['cpu_ms']:.2f}",
            f"{one['share']:.0%}",
            " / ".join(f"{lag:.0f}" for lag in one["lag_ms"]),
            one["blocked"],
            f"{one['lines']:.1f}",
            f"{one['pushes']:.1f}",
            f"{one['supervisor']:.0%}",
        )
        for title, one in (
            ("no steps", without),
            (f"a new step every {STEP_SECONDS:.0f} s", with_steps),
        )
    ]
    headings = (
        *("", "CPU ms per poll", "times no steps", "polls done", "loop lag ms p50 / p99 / max"),
        *("loop blocked", "log lines per s", "XCom pushes per s", "CPU of the supervisor"),
    )
    print_table(f"{LOGGED_TASKS:,} tasks of a real triggerer, each polled every 10 s", headings, rows)


def wait_for_many(name: str, tasks: int, interval: float, certificate: Path | None) -> dict[str, Any]:
    """Run one contender against its own mock service."""
    with tempfile.TemporaryDirectory() as folder, run_mock_service(Path(folder), certificate) as url:
        arguments = [name, url, tasks, interval, MEASURED_SECONDS]
        return run("lab.benchmarks.measure_waiting", arguments, home=folder, certificate=certificate)


def run(
    module: str, arguments: Sequence[Any], *, home: str | None = None, certificate: Path | None = None
) -> dict[str, Any]:
    """Run a module, mostly for the contender in the first argument; return its last line, parsed as JSON."""
    title = TITLES.get(arguments[0], module)
    print(f"{title}: {' '.join(str(one) for one in arguments[1:])} ...", file=sys.stderr, flush=True)
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(PEERS_FOLDER)])
    if home:
        environment["AIRFLOW_HOME"] = home
    if certificate:
        environment |= build_trust_variables(certificate)
    command = [sys.executable, "-m", module, *(str(one) for one in arguments)]
    with tempfile.TemporaryDirectory() as folder:
        log, output = Path(folder) / "log", Path(folder) / "output"
        program = Program(title, command, environment=environment, log_path=log, output_path=output)
        try:
            if home:
                pin(program, 1)
            status = program.wait(timeout=CONTENDER_TIMEOUT)
            if status != 0:
                ended = (
                    f"did not end in {CONTENDER_TIMEOUT:.0f} s" if status is None else f"ended with {status}"
                )
                raise SystemExit(f"{command} {ended}.\n{program.describe_log_end()}")
        finally:
            program.stop(grace=CLEAN_UP_SECONDS)
        return dict(json.loads(output.read_text().splitlines()[-1]))


if __name__ == "__main__":
    run_command(main)
