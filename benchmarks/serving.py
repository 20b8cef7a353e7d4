"""The service as a program beside us, and what it tells."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
#: Where the Makefile puts the other providers.
PEERS = FOLDER.parent / ".peers"
#: Those that we may use; empty where the system cannot keep a process to some of them.
PROCESSORS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
sys.path[:0] = [str(FOLDER.parent / "demo")]

from processes import Program, wait_until  # noqa: E402


@contextmanager
def serve(folder: Path, certificate: Path | None = None) -> Iterator[str]:
    """
    Run the service, and give its address.

    :param folder: Where it writes its log.
    :param certificate: With one it speaks TLS.
    """
    address = folder / "address"
    command = [sys.executable, str(FOLDER / "service.py"), *([str(certificate)] if certificate else [])]
    service = Program(
        "service",
        command,
        environment=dict(os.environ),
        log_path=folder / "service.log",
        output_path=address,
    )
    try:
        pin(service, 0)
        if not wait_until(lambda: "\n" in address.read_text(), timeout=20):
            raise SystemExit(f"the service did not start:\n{service.describe_log_end()}")
        yield address.read_text().strip()
    finally:
        service.stop(grace=0)


class Service:
    """
    The service's side of a run, as it keeps it.

    :param url: Its address.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def read_counts(self) -> dict[str, float]:
        """Return what was asked so far: polls, connections, and the tasks that were asked for."""
        return self._control("counts")

    def finish(self, at: float, seconds: float, tasks: int) -> None:
        """Let the tasks end one after the other from this moment on, all within so many seconds."""
        self._control(f"finish?at={at}&seconds={seconds}&tasks={tasks}")

    def _control(self, path: str) -> dict[str, float]:
        with urllib.request.urlopen(f"{self._url}/control/{path}") as reply:  # noqa: S310 - our own service
            return dict(json.load(reply))


def pin(program: Program, place: int) -> None:
    """Keep a program that was just started to the first or second of our processors, where there are two."""
    if len(PROCESSORS) > 1:
        os.sched_setaffinity(program.leader.pid, {PROCESSORS[place]})


def describe_processors() -> str:
    """Say how many processors we may use, and whether service and contender have one each."""
    if len(PROCESSORS) > 1:
        return f"{len(PROCESSORS)} usable processors; the service and each contender have one of their own"
    count = len(PROCESSORS) or os.cpu_count()
    return f"usable processors: {count}; service and contender are NOT kept apart and disturb each other"
