"""The demo's programs leave nothing behind: real processes, of the kinds that Airflow starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cluster.processes import (
    Program,
    SessionLeader,
    find_by_command_line,
    find_process_tree,
    is_running,
    read_session_leader,
    wait_until,
)

# Starts one process in a group of its own (as Airflow's tasks are) and one in a session of its own (as its
# bash tasks are), and waits; {} is what it does on SIGTERM.
PARENT = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, {})
sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
in_a_group = subprocess.Popen(sleep, preexec_fn=os.setpgrp)
in_a_session = subprocess.Popen(sleep, start_new_session=True)
print(in_a_group.pid, in_a_session.pid, flush=True)
time.sleep(60)
"""
OBEYS = "lambda *_: os._exit(0)"
IGNORES = "signal.SIG_IGN"


class Started:
    """A running parent with its two children."""

    def __init__(self, folder: Path, on_termination: str) -> None:
        output = folder / "output"
        self.program = Program(
            "parent",
            [sys.executable, "-c", PARENT.format(on_termination)],
            environment=dict(os.environ),
            log_path=folder / "log",
            output_path=output,
        )
        assert wait_until(lambda: "\n" in output.read_text(), timeout=30, interval=0.01)
        self.children = {int(pid) for pid in output.read_text().split()}

    def find_left(self) -> set[int]:
        return find_process_tree([self.program.leader]) | {
            pid for pid in self.children if read_session_leader(pid).started
        }


@pytest.fixture(params=[OBEYS, IGNORES], ids=["obeys SIGTERM", "ignores SIGTERM"])
def started(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Started]:
    started = Started(tmp_path, request.param)
    yield started
    started.program.stop(grace=0)


def test_children_with_a_group_or_a_session_of_their_own_belong_to_the_program(started: Started) -> None:
    assert find_process_tree([started.program.leader]) == {started.program.leader.pid, *started.children}


@pytest.mark.parametrize("grace", [0, 0.3])
def test_nothing_is_left_of_a_stopped_program(started: Started, grace: float) -> None:
    started.program.stop(grace=grace)

    assert started.find_left() == set()
    assert started.program.exit_status is not None


def test_a_process_with_the_same_id_but_another_start_is_not_taken_for_the_leader(started: Started) -> None:
    later = SessionLeader(started.program.leader.pid, started="at another time")

    assert is_running(started.program.leader)
    assert not is_running(later)
    assert find_process_tree([later]) == set()


def test_a_process_is_found_by_a_part_of_its_command_line(started: Started, tmp_path: Path) -> None:
    script = "in_a_group.pid, in_a_session.pid"

    assert find_by_command_line("no process has this in its " + "title") == set()
    assert started.program.leader.pid in find_by_command_line(script)
    started.program.stop(grace=0)
    assert started.program.leader.pid not in find_by_command_line(script)
