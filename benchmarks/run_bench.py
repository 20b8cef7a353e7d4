"""
The benchmark: one command, a few tables in Markdown.

    python run_bench.py            about 40 minutes; says on standard error how far it is

Each contender has a process and a processor of its own, and the service another one; the first line says so
where the machine cannot do that.
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

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER.parent / "demo")]

from certificate import build_trust, write_certificate  # noqa: E402
from contenders import CONTENDERS  # noqa: E402
from processes import Program, raise_on_termination  # noqa: E402
from serving import PEERS, describe_processors, pin, serve  # noqa: E402
from simulation import simulate  # noqa: E402

BARE = "bare"
TITLES = {BARE: "bare aiohttp loop", **{name: contender.title for name, contender in CONTENDERS.items()}}
#: (tasks, seconds between two polls of a task)
SIZES = ((200, 5.0), (2000, 5.0), (10000, 10.0))
WAITERS = (BARE, "ours", "dbt", "http", "anthropic")
#: Without TLS a new connection costs less, which no service on the internet offers.
PLAIN_WAITERS = (BARE, "ours", "dbt", "http")
STARTERS = [(name, level) for level in ("INFO", "WARNING") for name in ("sleeper", "ours", "dbt")]
#: For how long a contender is watched: many rounds, also of one whose round takes far more than the interval.
SECONDS_WATCHED = 60.0
SECONDS_FOR_ONE = 400.0
#: For a program to end what it started itself, such as an Airflow.
SECONDS_TO_CLEAN_UP = 30.0

Row = Sequence[Any]


def main() -> None:
    raise_on_termination()
    print(f"{platform.python_implementation()} {platform.python_version()}, {describe_processors()}.\n")
    with tempfile.TemporaryDirectory() as name:
        certificate = Path(name) / "service.pem"
        write_certificate(certificate)
        for tasks, interval in SIZES:
            title = f"{tasks:,} tasks, each polled every {interval:.0f} s"
            print_waiting(title, tasks, interval, WAITERS, certificate)
        print_waiting("2,000 tasks every 5 s, without TLS", 2000, 5.0, PLAIN_WAITERS, None)
    print_requests()
    print_start_up()


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
        *("", "CPU ms a poll", "of bare", "polls done", "connections a poll", "MiB"),
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
        *("length of the run", "requests at a fixed 5 s", "requests of the growing wait", "of the fixed"),
        *("end seen late s p50 / p99", "p99 of the part beyond 5 % of the run"),
    )
    print_table("Requests until the end is seen, simulated", headings, rows)


def print_start_up() -> None:
    rows = []
    for name, log_level in STARTERS:
        one = run(name, [FOLDER / "startup.py", name, log_level])
        last = one["last_asked_after"]
        rows.append(
            (
                TITLES[name],
                log_level,
                one["look_ups"],
                "" if last is None else f"{last:.0f}",
                one["asked"],
                one["blocked"],
            )
        )
    headings = ("", "log level", "look-ups", "s until the last first poll", "tasks asked for", "loop blocked")
    print_table("1,000 triggers of one connection start at once in a real triggerer", headings, rows)


def wait_for_many(name: str, tasks: int, interval: float, certificate: Path | None) -> dict[str, Any]:
    """Run one contender against a service of its own."""
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder), certificate) as url:
        arguments = [FOLDER / "waiter.py", name, url, tasks, interval, SECONDS_WATCHED]
        return run(name, arguments, home=folder, certificate=certificate)


def run(
    name: str, arguments: Sequence[Any], *, home: str | None = None, certificate: Path | None = None
) -> dict[str, Any]:
    """Run a program of this folder, and return what it prints in its last line."""
    print(f"{TITLES[name]}: {' '.join(str(one) for one in arguments[1:])} ...", file=sys.stderr, flush=True)
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join([str(FOLDER.parent), str(PEERS)])
    if home:
        environment["AIRFLOW_HOME"] = home
    if certificate:
        environment |= build_trust(certificate)
    command = [sys.executable, *(str(one) for one in arguments)]
    with tempfile.TemporaryDirectory() as folder:
        log, output = Path(folder) / "log", Path(folder) / "output"
        program = Program(TITLES[name], command, environment=environment, log_path=log, output_path=output)
        try:
            if home:
                pin(program, 1)
            status = program.wait(timeout=SECONDS_FOR_ONE)
            if status != 0:
                ended = (
                    f"did not end in {SECONDS_FOR_ONE:.0f} s" if status is None else f"ended with {status}"
                )
                raise SystemExit(f"{command} {ended}.\n{program.describe_log_end()}")
        finally:
            program.stop(grace=SECONDS_TO_CLEAN_UP)
        return dict(json.loads(output.read_text().splitlines()[-1]))


def print_table(title: str, headings: Sequence[str], rows: Sequence[Row]) -> None:
    """Print a table in Markdown."""
    print(f"### {title}\n")
    for row in (headings, ["---"] * len(headings), *rows):
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print(flush=True)


if __name__ == "__main__":
    main()
