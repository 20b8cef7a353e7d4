"""
``make bench``: measure what waiting and streaming cost, beside other clients, and print tables in Markdown.

Takes more than an hour and reports progress on standard error. Each contender has its own process and
processor, and so does the mock service; the first line warns if the machine does not have two processors.
"""

from __future__ import annotations

from lab.benchmarks.compare_waiting import print_waiting
from lab.benchmarks.contender_process import TITLES, run
from lab.benchmarks.markdown_table import print_table
from lab.benchmarks.measure_streaming import EVENTS, HEADINGS
from lab.benchmarks.measure_streaming import measure as measure_streaming
from lab.benchmarks.measure_waiting_callbacks import print_waiting_callbacks
from lab.benchmarks.processors import describe_processors
from lab.benchmarks.simulate_polls import simulate
from lab.command_line import build_parser, run_command
from lab.peer_providers import require_peers

PEERS = ("dbt", "http", "anthropic")
STARTERS = [(name, level) for level in ("INFO", "WARNING") for name in ("sleeper", "ours", "dbt")]
#: The tasks whose live log is measured, and the seconds between two steps of each.
LOGGED_TASKS = 10_000
STEP_SECONDS = 5.0


def main() -> int:
    """Measure everything, print the tables and return the exit status."""
    build_parser("lab.benchmarks", __doc__).parse_args()
    require_peers()
    print(f"{describe_processors()}.\n", flush=True)
    print_waiting(PEERS)
    print_requests()
    print_triggerer_start()
    print_table(f"A stream of {EVENTS:,} events on a worker", HEADINGS, measure_streaming())
    print_live_log()
    print_waiting_callbacks()
    return 0


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


if __name__ == "__main__":
    run_command(main)
