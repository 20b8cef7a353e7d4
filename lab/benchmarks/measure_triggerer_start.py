"""
Measures how a real triggerer starts a thousand triggers of one connection at once, as after a restart.

Prints as JSON how often the connection was looked up, when the last trigger made its first poll, and how
often the triggerer found its event loop blocked (its metric ``triggers.blocked_main_thread``; at log
level INFO it also logs "Triggerer's async thread was blocked").
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from lab.benchmarks.contenders import CONTENDERS
from lab.benchmarks.waiting_triggerer import WaitingTriggerer, run_airflow
from lab.cluster.processes import wait_until
from lab.command_line import build_parser, run_command

COUNT = 1000
INTERVAL = 10.0
#: Seconds within which all triggers must make their first poll; the sleeping contender never polls.
POLL_TIMEOUT = 90.0
SLEEPER_TIMEOUT = 20.0


def measure(name: str, log_level: str) -> dict[str, object]:
    """Start the triggers of a contender, and return the counts."""
    with tempfile.NamedTemporaryFile() as file:
        lookups = Path(file.name)
        environment = {
            "LOOKUPS": str(lookups),
            "AIRFLOW__SECRETS__BACKEND": "lab.benchmarks.counting_backend.CountingBackend",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": log_level,
        }
        with run_airflow(name, environment) as triggerer:
            seen = _watch(triggerer, lookups, SLEEPER_TIMEOUT if name == "sleeper" else POLL_TIMEOUT)
        return {"name": name, "log_level": log_level, **seen}


def _watch(triggerer: WaitingTriggerer, lookups: Path, timeout: float) -> dict[str, object]:
    service, metrics = triggerer.service, triggerer.metrics
    triggerer.defer(COUNT, INTERVAL)
    before, blocked, began = len(lookups.read_text().split()), metrics.blocked, time.monotonic()
    triggerer.start()
    wait_until(lambda: service.read_counts()["polled"] >= COUNT, timeout=timeout, interval=0.5)
    counts = service.read_counts()
    return {
        "polled": int(counts["polled"]),
        "last_polled_after": counts["last_first_polled_at"] - began if counts["polled"] else None,
        "lookups": len(lookups.read_text().split()) - before,
        "blocked": metrics.blocked - blocked,
    }


def main() -> int:
    """Measure, print the counts and return the exit status."""
    parser = build_parser("lab.benchmarks.measure_triggerer_start", __doc__)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("log_level", choices=["INFO", "WARNING"])
    given = parser.parse_args()
    print(json.dumps(measure(given.contender, given.log_level)))
    return 0


if __name__ == "__main__":
    run_command(main)
