"""
A program that runs as a process session: started with a log file, ended with everything it started.

Airflow puts every running task into its own process group, so ending a component's group would leave its
tasks running. They share a session instead. A task that opens its own session, as Airflow's bash tasks do, is
found as a descendant. On Linux the process table comes from ``/proc``, on other systems from ``ps``.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class _Entry(NamedTuple):
    parent: int
    session: int
    started: str


@dataclass(frozen=True)
class SessionLeader:
    """
    The first process of a session.

    :param pid: Its id, which is the session's id as well.
    :param started: When it started, in the system's format; it differs for a later process with the same id.
    """

    pid: int
    started: str


def read_session_leader(pid: int) -> SessionLeader:
    """Return the identity of the running process ``pid``; its start is empty if it has already exited."""
    entry = _read_process_table().get(pid)
    return SessionLeader(pid, entry.started if entry else "")


def is_running(leader: SessionLeader) -> bool:
    """Return True if exactly this process is still running."""
    entry = _read_process_table().get(leader.pid)
    return entry is not None and entry.started == leader.started


def find_process_tree(leaders: Iterable[SessionLeader]) -> set[int]:
    """Return the ids of all processes in the leaders' sessions, and of their descendants."""
    table = _read_process_table()
    sessions = {
        leader.pid
        for leader in leaders
        if leader.pid not in table or table[leader.pid].started == leader.started
    }
    tree = {pid for pid, entry in table.items() if entry.session in sessions}
    while more := {pid for pid, entry in table.items() if entry.parent in tree} - tree:
        tree |= more
    return tree


def end_process_trees(leaders: Sequence[SessionLeader], *, grace: float = 3.0) -> None:
    """
    End these sessions and everything they started: SIGTERM, then SIGKILL for what is left.

    :param leaders: The first processes of the sessions.
    :param grace: Seconds between SIGTERM and SIGKILL; 0 sends SIGKILL at once.
    """
    tree: set[int] = set()
    try:
        tree = find_process_tree(leaders)
        for leader in leaders if grace > 0 else []:
            if is_running(leader):
                with suppress(ProcessLookupError):
                    os.killpg(leader.pid, signal.SIGTERM)
        wait_until(lambda: not any(is_running(leader) for leader in leaders), timeout=grace)
    finally:
        # On an interrupt too: a second Ctrl-C must end everything sooner, and not leave half of it running.
        _kill(leaders, tree)


def _kill(leaders: Sequence[SessionLeader], tree: set[int]) -> None:
    started = {pid: entry.started for pid, entry in _read_process_table().items() if pid in tree}

    def killed_all() -> bool:
        table = _read_process_table()
        known = {pid for pid in started if pid in table and table[pid].started == started[pid]}
        left = known | find_process_tree(leaders)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    wait_until(killed_all, timeout=5.0)


def find_by_command_line(*texts: str) -> set[int]:
    """Return the ids of the processes with any of these texts in their command line, such as a task's id."""
    if Path("/proc/self/cmdline").exists():
        lines = {pid: _read_command_line(pid) for pid in _read_process_table()}
        return {pid for pid, line in lines.items() if any(text.encode() in line for text in texts)}
    command = ["ps", "-A", "-ww", "-o", "pid=,command="]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()  # noqa: S603
    return {int(line.split()[0]) for line in printed if any(text in line for text in texts)}


def wait_until(condition: Callable[[], bool], *, timeout: float, interval: float = 0.1) -> bool:
    """Check every ``interval`` seconds; return True once it holds, False after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval)
    return True


def raise_on_termination() -> None:
    """
    Turn SIGTERM, SIGHUP and SIGINT into KeyboardInterrupt, so that ``with`` blocks end what they started.

    SIGINT too: shells start background jobs with it ignored, and Python keeps it ignored.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


def find_free_ports(count: int) -> list[int]:
    """Return ports of the loopback address that are free at this moment."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def is_listening(port: int) -> bool:
    """Return True if a program accepts connections on this port of the loopback address."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Program:
    """
    A running program, the leader of its own session.

    :param name: Its name in messages.
    :param command: The program and its arguments.
    :param environment: Its whole environment; nothing is inherited.
    :param log_path: The file for its stderr, and for its stdout if ``output_path`` is None.
    :param output_path: The file for its stdout.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log_path: Path,
        output_path: Path | None = None,
    ) -> None:
        self.name = name
        self.log_path = log_path
        with log_path.open("ab") as log, (output_path or log_path).open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - the commands are our own
                list(command),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
            )
        try:
            self.leader = read_session_leader(self._process.pid)
        except BaseException:
            # An interrupt here would leave a program running that is in no list.
            self._process.kill()
            raise

    @property
    def exit_status(self) -> int | None:
        """The exit status of the program's first process, or None while it is running."""
        return self._process.poll()

    def wait(self, *, timeout: float) -> int | None:
        """Wait until the program exits by itself; return its status, or None after ``timeout`` seconds."""
        wait_until(lambda: self.exit_status is not None, timeout=timeout)
        return self.exit_status

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to every process of the program, for example SIGSTOP to freeze it."""
        for pid in find_process_tree([self.leader]):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self, *, grace: float = 10.0) -> None:
        """End the program and everything it started; see ``end_process_trees``."""
        end_process_trees([self.leader], grace=grace)
        self._process.wait()

    def describe_log_end(self, count: int = 25) -> str:
        """Return the last lines of the program's log, and the path of the file."""
        lines = self.log_path.read_text(errors="replace").splitlines()[-count:]
        return "\n    ".join([f"The end of its log, {self.log_path}:", *lines])


def _read_process_table() -> dict[int, _Entry]:
    """Return all processes except zombies, which a container may have no process to reap."""
    if not Path("/proc/self/stat").exists():
        return _ask_ps()
    table = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # The name in brackets may contain spaces and brackets; the fields after it do not.
            state, *fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if state not in "ZX":
            table[int(folder.name)] = _Entry(int(fields[0]), int(fields[2]), fields[18])
    return table


def _read_command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _ask_ps() -> dict[int, _Entry]:
    command = ["ps", "-A", "-o", "pid=,ppid=,stat=,lstart="]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()  # noqa: S603
    table = {}
    for line in lines:
        pid, parent, state, started = line.split(maxsplit=3)
        if not state.startswith("Z"):
            with suppress(OSError):
                table[int(pid)] = _Entry(int(parent), os.getsid(int(pid)), started)
    return table
