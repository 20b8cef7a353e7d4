"""
Measures what a poll costs while many tasks wait, beside the cheapest loop that aiohttp allows, and prints a
table for each number of tasks, with TLS and without.

The loops and this package take turns, and each row is the round with the median CPU. A loop that shares its
processor works on many polls at once and pays less for each, so the figures of a busy machine are not those
of a quiet one: the columns "wakeups" and "preemptions" show which one it was.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median_low
from typing import Any

from lab.benchmarks.bare_loops import BARE, DEFAULTS
from lab.benchmarks.contender_process import TITLES, run
from lab.benchmarks.markdown_table import print_table
from lab.benchmarks.mock_service_process import run_mock_service
from lab.benchmarks.processors import describe_processors
from lab.benchmarks.tls_certificate import write_certificate
from lab.command_line import build_parser, run_command

#: (tasks, seconds between two polls of a task)
SIZES = ((200, 5.0), (2000, 5.0), (10000, 10.0))
#: Without TLS, a new connection is cheaper, but no service on the internet offers that.
PLAIN_SIZES = SIZES[1:]
PLAIN_PEERS = ("dbt", "http")
#: These take turns; the other providers, which cost a multiple, are measured once.
ALTERNATING = (BARE, DEFAULTS, "ours")
ROUNDS = 3
#: How long each of them is measured in a round.
ROUND_SECONDS = 30.0
#: How long another provider is measured: many polls of each task, even if it is far behind its interval.
PEER_SECONDS = 60.0
HEADINGS = (
    *("", "CPU ms per poll", "times bare", "wakeups per poll", "preemptions per s", "polls done"),
    *("connections per poll", "MiB", "loop lag ms p50 / p99 / max", "end to event s p50 / p99", "events"),
)


def main() -> int:
    """Measure the loops and this package, print the tables and return the exit status."""
    parser = build_parser("lab.benchmarks.compare_waiting", __doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of each; default {ROUNDS}")
    given = parser.parse_args()
    print(f"{describe_processors()}.\n", flush=True)
    print_waiting(rounds=given.rounds)
    return 0


def print_waiting(peers: Sequence[str] = (), *, rounds: int = ROUNDS) -> None:
    """
    Measure and print a table for each number of tasks.

    :param peers: The other providers to measure. Default: none.
    :param rounds: How often each loop and this package are measured.
    """
    plain_peers = [name for name in peers if name in PLAIN_PEERS]
    for tasks, interval in PLAIN_SIZES:
        found = measure(tasks, interval, plain_peers, None, rounds)
        print_results(f"{tasks:,} tasks, each polled every {interval:.0f} s, without TLS", tasks, found)
    with tempfile.TemporaryDirectory() as folder:
        certificate = Path(folder) / "service.pem"
        write_certificate(certificate)
        for tasks, interval in SIZES:
            found = measure(tasks, interval, peers, certificate, rounds)
            print_results(f"{tasks:,} tasks, each polled every {interval:.0f} s", tasks, found)


def measure(
    tasks: int, interval: float, peers: Sequence[str], certificate: Path | None, rounds: int
) -> list[dict[str, Any]]:
    """Return the results of the loops, of this package and of the other providers, in this order."""
    turns = [
        [wait_for_many(name, tasks, interval, certificate, ROUND_SECONDS) for name in ALTERNATING]
        for _ in range(rounds)
    ]
    found = [choose_median(results) for results in zip(*turns, strict=True)]
    return found + [wait_for_many(name, tasks, interval, certificate, PEER_SECONDS) for name in peers]


def choose_median(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the result with the median CPU (the lower one of two), and the least and the most CPU of all."""
    costs = [result["cpu_ms"] for result in results]
    return {**results[costs.index(median_low(costs))], "cpu_range": (min(costs), max(costs))}


def print_results(title: str, tasks: int, found: Sequence[dict[str, Any]]) -> None:
    """Print the table of one number of tasks."""
    cpu_of_bare = found[0]["cpu_ms"]
    rows = [
        (
            TITLES[one["name"]],
            describe_cpu(one),
            f"{one['cpu_ms'] / cpu_of_bare:.2f}",
            f"{one['wakeups']:.1f}",
            f"{one['preemptions']:.0f}",
            f"{one['share']:.0%}",
            f"{one['connections']:.3f}",
            f"{one['rss_mb']:.0f}",
            " / ".join(f"{lag:.0f}" for lag in one["lag_ms"]),
            " / ".join(f"{late:.1f}" for late in one["late"]),
            f"{one['ended'] / tasks:.0%}",
        )
        for one in found
    ]
    print_table(title, HEADINGS, rows)


def describe_cpu(result: dict[str, Any]) -> str:
    """Return the CPU per poll, with its range if there were several rounds."""
    if "cpu_range" not in result:
        return f"{result['cpu_ms']:.2f}"
    least, most = result["cpu_range"]
    return f"{result['cpu_ms']:.3f} ({least:.3f} to {most:.3f})"


def wait_for_many(
    name: str, tasks: int, interval: float, certificate: Path | None, seconds: float
) -> dict[str, Any]:
    """Run one contender against its own mock service."""
    with tempfile.TemporaryDirectory() as folder, run_mock_service(Path(folder), certificate) as url:
        arguments = [name, url, tasks, interval, seconds]
        return run("lab.benchmarks.measure_waiting", arguments, home=folder, certificate=certificate)


if __name__ == "__main__":
    run_command(main)
