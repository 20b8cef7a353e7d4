"""
Measures how often Airflow's supervisor misses the exit of a task's process, depending on what that leaves.

The supervisor looks for the exit once the last socket to the process has closed. If the exit is not complete
by then, it looks again after ``[workers] min_heartbeat_interval``; meanwhile, the slot stays occupied. Here,
Airflow's own supervisor watches processes, first on idle processors, then beside programs that compute all
the time.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from lab.benchmarks.markdown_table import print_table
from lab.benchmarks.mock_service_process import run_mock_service
from lab.benchmarks.processors import PROCESSORS
from lab.command_line import build_parser, run_command

EXITS = 200
#: Programs that compute on each processor.
BUSY_PROGRAMS = 2
COMPUTED_SECONDS = 0.1
MEMORY_BYTES = 50 * 2**20
PAGE_BYTES = 4096
THREADS = 3
CONNECTIONS = 10
REQUEST = b"GET /agent/tasks/1 HTTP/1.1\r\nHost: service\r\n\r\n"
#: Seconds that a supervisor waits here before it looks again.
LOOK_AGAIN = 0.05

#: What a process leaves behind is kept here until it exits.
kept: list[object] = []
#: What a process does before it exits. Takes the service's address.
Work = Callable[[str], None]


def compute(url: str) -> None:
    """Use the processor."""
    end = time.process_time() + COMPUTED_SECONDS
    while time.process_time() < end:
        pass


def use_memory(url: str) -> None:
    """Write to memory that the kernel has to free."""
    memory = bytearray(MEMORY_BYTES)
    memory[::PAGE_BYTES] = b"x" * len(range(0, MEMORY_BYTES, PAGE_BYTES))
    kept.append(memory)


def start_threads(url: str, count: int = 1) -> None:
    """Leave threads that wait."""
    for _ in range(count):
        threading.Thread(target=threading.Event().wait, daemon=True).start()


def start_and_end_thread(url: str) -> None:
    """End a thread before the exit."""
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()


def connect(url: str, count: int = 1) -> None:
    """Leave connections open, on each of which the service has answered a request."""
    parts = urlsplit(url)
    for _ in range(count):
        connection = socket.create_connection((parts.hostname or "", parts.port or 0))
        connection.sendall(REQUEST)
        if not connection.recv(4096):
            raise ConnectionError("the service closed the connection")
        kept.append(connection)


def connect_and_close(url: str) -> None:
    """Close the connection before the exit."""
    connect(url)
    kept.clear()


WORK: dict[str, Work] = {
    "nothing": lambda url: None,
    f"{COMPUTED_SECONDS:g} s of CPU": compute,
    f"{MEMORY_BYTES // 2**20} MiB written": use_memory,
    "1 thread, ended before the exit": start_and_end_thread,
    "1 thread that waits": start_threads,
    f"{THREADS} threads that wait": partial(start_threads, count=THREADS),
    "1 connection, closed before the exit": connect_and_close,
    "1 open connection": connect,
    f"{CONNECTIONS} open connections": partial(connect, count=CONNECTIONS),
}


def main() -> int:
    """Measure, print the table and return the exit status."""
    parser = build_parser("lab.benchmarks.measure_missed_exits", __doc__)
    parser.add_argument("--exits", type=int, default=EXITS, help=f"exits of each kind; default {EXITS}")
    exits = parser.parse_args().exits
    system = f"{platform.system()} {platform.release()}"
    print(f"{system}, {len(PROCESSORS)} processors, load {os.getloadavg()[0]:.1f}.\n", flush=True)
    with tempfile.TemporaryDirectory() as folder, run_mock_service(Path(folder)) as url:
        os.environ["AIRFLOW_HOME"] = folder
        logging.disable(logging.WARNING)
        idle = count_missed(url, exits)
        with run_busy_programs():
            busy = count_missed(url, exits)
    rows = [(name, f"{idle[name] / exits:.0%}", f"{busy[name] / exits:.0%}") for name in WORK]
    headings = ("the process leaves", "idle processors", "busy processors")
    print_table(f"Exits that the supervisor missed, of {exits}", headings, rows)
    return 0


@contextmanager
def run_busy_programs() -> Iterator[None]:
    """Let programs compute on all processors meanwhile."""
    command = [sys.executable, "-c", "while True: pass"]
    programs = [subprocess.Popen(command) for _ in range(BUSY_PROGRAMS * max(1, len(PROCESSORS)))]  # noqa: S603
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def count_missed(url: str, exits: int) -> dict[str, int]:
    """Return the number of missed exits of each kind; the kinds take turns."""
    missed = dict.fromkeys(WORK, 0)
    for _ in range(exits):
        for name, work in WORK.items():
            missed[name] += is_exit_missed(name, work, url)
    return missed


def is_exit_missed(name: str, work: Work, url: str) -> bool:
    """Let a process work and exit; return whether its supervisor looked too early."""
    # Imported here, because Airflow reads its configuration first.
    from airflow.sdk.execution_time.supervisor import WatchedSubprocess

    process = WatchedSubprocess.start(id=uuid4(), target=lambda: work(url))
    while process._open_sockets:
        process._service_subprocess(max_wait_time=LOOK_AGAIN)
    missed = process._exit_code is None
    while process._exit_code is None:
        process._service_subprocess(max_wait_time=LOOK_AGAIN)
    process.selector.close()
    process.stdin.close()
    if process._exit_code != 0:
        raise SystemExit(f"the process that should leave {name} ended with {process._exit_code}.")
    return missed


if __name__ == "__main__":
    run_command(main)
