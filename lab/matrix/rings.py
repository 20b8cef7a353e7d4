"""The rings of tests, from pure unit tests to the fault round, and how to run one."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from lab.cluster.airflow_environment import build_clean_environment
from lab.cluster.processes import Program

#: Seconds after which a ring counts as hanging; the longest ring takes a quarter of it on two cores.
TIMEOUT = 3600.0

#: How much of a ring's failures is printed: where only the output is kept, nothing else tells why it failed.
PRINTED_FAILURES = 5
PRINTED_LINES = 60


@dataclass(frozen=True)
class Ring:
    """
    :param command: The arguments for the Python of the environment.
    :param has_database: Whether the database can make a difference.
    :param has_processes: Whether it starts real Airflow processes, and takes a long time.
    """

    command: tuple[str, ...]
    has_database: bool = True
    has_processes: bool = False


def _pytest(*paths: str) -> tuple[str, ...]:
    # Verbose: the log of a ring that hangs or is interrupted names what failed.
    return ("-m", "pytest", "-vv", "-n", "3", "--dist", "worksteal", "-p", "no:cacheprovider", *paths)


RINGS = {
    "pure": Ring(
        _pytest("tests/services", "tests/lifecycle", "tests/polling", "tests/test_layers.py"),
        has_database=False,
    ),
    "wire": Ring(_pytest("tests/client", "tests/hooks", "tests/sandbox"), has_database=False),
    "airflow": Ring(_pytest("tests/airflow")),
    "processes": Ring(
        # The fault round is a separate ring.
        _pytest(
            "tests/airflow_processes", "tests/browser", "--ignore=tests/airflow_processes/test_faults.py"
        ),
        has_processes=True,
    ),
    "faults": Ring(("-m", "lab.faults", "--runs", "1"), has_processes=True),
}


@dataclass(frozen=True)
class Result:
    """
    The result of a cell.

    :param verdict: "passed", "FAILED" or "not run".
    :param detail: The number of tests, or the reason.
    :param seconds: The duration.
    :param failures: The first tests that failed, each with the end of its traceback.
    """

    verdict: str
    detail: str = ""
    seconds: float = 0.0
    failures: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.verdict} ({self.detail})" if self.detail else self.verdict


def run_ring(name: str, python: Path, database: str, log_path: Path) -> Result:
    """
    Run a ring with the Python of an environment, and stop everything that it started.

    :param log_path: The file for its output.
    """
    ring = RINGS[name]
    report = log_path.with_suffix(".xml")
    for old in (report, log_path):
        old.unlink(missing_ok=True)
    options = ["--database", database] if ring.has_database else []
    if "pytest" in ring.command:
        options.append(f"--junitxml={report}")
    environment = build_clean_environment()
    # The tests of commands look for the programs there.
    environment["PATH"] = f"{python.parent}:{environment['PATH']}"
    started = time.monotonic()
    program = Program(
        name, [str(python), *ring.command, *options], environment=environment, log_path=log_path
    )
    try:
        status = program.wait(timeout=TIMEOUT)
    finally:
        program.stop()
    seconds = time.monotonic() - started
    suite = _read_suite(report) if report.exists() else None
    counts = "" if suite is None else _count(suite)
    if status == 0:
        return Result("passed", counts, seconds)
    if status is None:
        return Result("FAILED", f"not done after {TIMEOUT / 60:.0f} minutes", seconds)
    failures = () if suite is None else _list_failures(suite)
    return Result("FAILED", counts or f"exit status {status}", seconds, failures)


def _read_suite(report: Path) -> ElementTree.Element:
    (suite,) = ElementTree.parse(report).getroot().iter("testsuite")  # noqa: S314 - pytest wrote it
    return suite


def _list_failures(suite: ElementTree.Element) -> tuple[str, ...]:
    failures = [
        "\n".join([f"{test.get('classname')}::{test.get('name')}", *lines[-PRINTED_LINES:]])
        for test in suite.iter("testcase")
        for failure in test
        if failure.tag in ("failure", "error")
        for lines in [(failure.text or "").splitlines()]
    ]
    return tuple(failures[:PRINTED_FAILURES])


def _count(suite: ElementTree.Element) -> str:
    tests, failures, errors, skipped = (
        int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
    )
    bad = failures + errors
    skips = f", {skipped} skipped" if skipped else ""
    return f"{bad} of {tests}{skips}" if bad else f"{tests - skipped}{skips}"
