"""Starts the mock service as a process, and reads its counts."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.benchmarks.processors import pin
from lab.cluster.processes import Program, wait_until


@contextmanager
def run_mock_service(folder: Path, certificate: Path | None = None) -> Iterator[str]:
    """
    Run the mock service, and return its address.

    :param folder: The folder for its log.
    :param certificate: The PEM file for TLS; None for plain HTTP.
    """
    address = folder / "address"
    command = [sys.executable, "-m", "lab.benchmarks.mock_service"]
    service = Program(
        "service",
        [*command, *([str(certificate)] if certificate else [])],
        environment=dict(os.environ),
        log_path=folder / "service.log",
        output_path=address,
    )
    try:
        pin(service, 0)
        if not wait_until(lambda: "\n" in address.read_text(), timeout=20):
            raise SystemExit(f"the mock service did not start:\n{service.describe_log_end()}")
        yield address.read_text().strip()
    finally:
        service.stop(grace=0)


class MockServiceControl:
    """
    The control requests of the mock service.

    :param url: Its address.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def read_counts(self) -> dict[str, float]:
        """Return the counts so far: polls, connections, and the tasks that were polled."""
        return self._control("counts")

    def finish(self, at: float, seconds: float, tasks: int) -> None:
        """Let the tasks end one after the other from the time ``at``, all within ``seconds``."""
        self._control(f"finish?at={at}&seconds={seconds}&tasks={tasks}")

    def change_steps(self, seconds: float) -> None:
        """Let each task begin a new step every so many seconds; 0 for no steps."""
        self._control(f"steps?seconds={seconds}")

    def _control(self, path: str) -> dict[str, float]:
        with urllib.request.urlopen(f"{self._url}/control/{path}") as response:  # noqa: S310 - our own service
            return dict(json.load(response))
