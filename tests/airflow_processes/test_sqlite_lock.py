"""A program that is frozen does not keep the database locked: a real process, and real locks."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from lab.cluster.processes import Program, wait_until
from lab.cluster.sqlite_lock import freeze, is_locked

# Holds the lock four fifths of the time.
WRITER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
print("ready", flush=True)
while True:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO row VALUES (1)")
    time.sleep(0.2)
    connection.execute("COMMIT")
    time.sleep(0.05)
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "some.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE row (number)")
    return path


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "BEGIN; SELECT * FROM row"])
def test_a_transaction_that_writes_or_reads_locks_out_others(database: Path, statement: str) -> None:
    assert not is_locked(database, timeout=0)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for part in statement.split("; "):
            connection.execute(part)
        assert is_locked(database, timeout=0)
        connection.execute("COMMIT")
        assert not is_locked(database, timeout=0)


def test_a_program_is_frozen_while_it_holds_no_lock(tmp_path: Path, database: Path) -> None:
    output = tmp_path / "output"
    writer = Program(
        "writer",
        [sys.executable, "-c", WRITER, str(database)],
        environment=dict(os.environ),
        log_path=tmp_path / "log",
        output_path=output,
    )
    try:
        assert wait_until(lambda: "ready" in output.read_text(), timeout=30, interval=0.01)
        for _ in range(5):
            for _ in freeze(writer, database, lock_timeout=0.1):
                time.sleep(0.01)
            assert not is_locked(database, timeout=0)
            writer.send_signal(signal.SIGCONT)
        assert writer.exit_status is None, writer.describe_log_end()
    finally:
        writer.stop(grace=0)
