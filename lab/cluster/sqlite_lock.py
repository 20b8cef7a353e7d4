"""Freezes one program of an Airflow on SQLite without blocking the others."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from lab.cluster.processes import Program


def freeze(program: Program, database: Path, *, lock_timeout: float = 2.0) -> Iterator[None]:
    """
    Freeze a program while it does not hold SQLite's lock; yields after each failed attempt.

    A program that is frozen in the middle of a transaction keeps the whole database locked: no other program
    can write, and a new one cannot even start. On PostgreSQL, it would lock only its own rows.

    :param database: The file.
    :param lock_timeout: Seconds after which a lock counts as held by the frozen program.
    """
    program.send_signal(signal.SIGSTOP)
    while is_locked(database, timeout=lock_timeout):
        program.send_signal(signal.SIGCONT)
        yield
        program.send_signal(signal.SIGSTOP)


def is_locked(database: Path, *, timeout: float) -> bool:
    """Return True if the whole database cannot be locked within ``timeout`` seconds."""
    with closing(sqlite3.connect(database, timeout=timeout, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            return True
        connection.execute("ROLLBACK")
    return False
