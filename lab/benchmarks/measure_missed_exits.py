"""
Measures how often a parent misses that its child exits, if it looks as Airflow's supervisor does.

The supervisor watches the sockets to the process of a task, and looks for its exit once the last of them has
closed. The kernel closes them while the process exits. If the supervisor looks before the exit is complete,
it looks again after ``[workers] min_heartbeat_interval``, and keeps the slot of the worker until then. Here,
children of several kinds exit, first on idle processors, then beside programs that compute all the time.
"""

from __future__ import annotations

import os
import platform
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

from lab.benchmarks.markdown_table import print_table
from lab.benchmarks.processors import PROCESSORS
from lab.command_line import build_parser, run_command

EXITS = 100
#: Programs that compute on each processor.
BUSY_PROGRAMS = 2
#: Seconds of CPU that the supervisor needs to read the end of a socket, about.
READ_SECONDS = 0.00015
COMPUTED_SECONDS = 0.1
MEMORY_BYTES = 50 * 2**20
PAGE_BYTES = 4096
THREADS = 3
CONNECTIONS = 10

#: What a child does before it exits; returns what it keeps. Takes the port of a server.
Child = Callable[[int], object]


def compute(port: int) -> None:
    """Use the processor."""
    end = time.process_time() + COMPUTED_SECONDS
    while time.process_time() < end:
        pass


def use_memory(port: int) -> bytearray:
    """Write to memory that the kernel has to free."""
    memory = bytearray(MEMORY_BYTES)
    memory[::PAGE_BYTES] = b"x" * len(range(0, MEMORY_BYTES, PAGE_BYTES))
    return memory


def start_threads(port: int) -> None:
    """Leave threads that wait."""
    for _ in range(THREADS):
        threading.Thread(target=threading.Event().wait, daemon=True).start()


def connect(port: int) -> list[socket.socket]:
    """Leave connections open."""
    return [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]


CHILDREN: dict[str, Child] = {
    "does nothing": lambda port: None,
    f"has computed for {COMPUTED_SECONDS:g} s": compute,
    f"has written to {MEMORY_BYTES // 2**20} MiB": use_memory,
    f"has {THREADS} more threads": start_threads,
    f"has {CONNECTIONS} open connections": connect,
}


def main() -> int:
    """Measure, print the table and return the exit status."""
    parser = build_parser("lab.benchmarks.measure_missed_exits", __doc__)
    parser.add_argument("--exits", type=int, default=EXITS, help=f"exits of each kind; default {EXITS}")
    exits = parser.parse_args().exits
    system = f"{platform.system()} {platform.release()}"
    print(f"{system}, {len(PROCESSORS)} processors, load {os.getloadavg()[0]:.1f}.\n", flush=True)
    with socket.create_server(("127.0.0.1", 0), backlog=2 * CONNECTIONS * exits) as server:
        port = server.getsockname()[1]
        idle = [measure(child, port, exits) for child in CHILDREN.values()]
        with run_busy_programs():
            busy = [measure(child, port, exits) for child in CHILDREN.values()]
    rows = [
        (name, *describe(quiet), *describe(disturbed))
        for name, quiet, disturbed in zip(CHILDREN, idle, busy, strict=True)
    ]
    late = "the exit came ms later, median"
    headings = ("the child", "missed, idle processors", late, "missed, busy processors", late)
    print_table("Exits that the parent missed", headings, rows)
    return 0


@contextmanager
def run_busy_programs() -> Iterator[None]:
    """Let programs compute on all processors meanwhile."""
    programs = [_start_busy_program() for _ in range(BUSY_PROGRAMS * len(PROCESSORS))]
    try:
        yield
    finally:
        for pid in programs:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _start_busy_program() -> int:
    if pid := os.fork():
        return pid
    while True:
        pass


def measure(child: Child, port: int, exits: int) -> list[float]:
    """Return for each exit how many seconds it came after the parent looked; 0 if it was seen."""
    return [measure_exit(child, port) for _ in range(exits)]


def measure_exit(child: Child, port: int) -> float:
    """Start a child, and look for its exit once both of its sockets have closed."""
    pairs = [socket.socketpair() for _ in range(2)]
    pid = os.fork()
    if pid == 0:
        for own, _ in pairs:
            own.close()
        _kept = child(port)
        os._exit(0)
    poll = select.poll()
    for own, theirs in pairs:
        theirs.close()
        poll.register(own, select.POLLIN)
    is_seen, still_open = False, len(pairs)
    while still_open:
        for number, _ in poll.poll():
            poll.unregister(number)
            still_open -= 1
        read_ends_at = time.perf_counter() + READ_SECONDS
        while time.perf_counter() < read_ends_at:
            pass
        is_seen = is_seen or has_exited(pid)
    looked_at = time.perf_counter()
    while not is_seen and not has_exited(pid):
        pass
    seconds = 0.0 if is_seen else time.perf_counter() - looked_at
    for own, _ in pairs:
        own.close()
    return seconds


def has_exited(pid: int) -> bool:
    """Return whether a child has exited; once."""
    return os.waitpid(pid, os.WNOHANG)[0] == pid


def describe(seconds: list[float]) -> tuple[str, str]:
    """Return the share of the missed exits, and how late they came."""
    missed = [one for one in seconds if one > 0]
    return f"{len(missed) / len(seconds):.0%}", f"{1000 * median(missed):.1f}" if missed else "-"


if __name__ == "__main__":
    run_command(main)
