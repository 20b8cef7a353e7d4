"""The database of a measured Airflow: which one it is, and what the benchmarks see of it from outside."""

from __future__ import annotations

import json
import struct
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from lab.cluster.airflow_cluster import AirflowCluster
from lab.cluster.postgresql import create_database, run_postgresql

DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def add_argument(parser: ArgumentParser) -> None:
    """Let the command line choose the database."""
    parser.add_argument("--database", choices=DATABASES, default="sqlite", help="default sqlite")


@contextmanager
def run_database(name: str) -> Iterator[str | None]:
    """Yield the URL of an empty database, which runs until the end of the block; None for SQLite."""
    if name == "sqlite":
        yield None
        return
    with run_postgresql() as server_url:
        yield create_database(server_url)


class TaskRow(NamedTuple):
    """
    What the database says about a task.

    :param state: Its state.
    :param is_called: True if the event of a callback is in the arguments of its next execution.
    :param updated_at: When its row last changed, in seconds since 1970.
    """

    state: str
    is_called: bool
    updated_at: float


class Database:
    """
    The database of a running Airflow.

    :param cluster: The Airflow.
    """

    def __init__(self, cluster: AirflowCluster) -> None:
        # Imported here, so that the commands print their help without it.
        from sqlalchemy import create_engine

        self._path = cluster.sqlite_path
        url = cluster.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
        self._engine = create_engine(url, isolation_level="AUTOCOMMIT")

    def settle(self) -> None:
        """Make PostgreSQL plan its queries for the rows that it has now, and write nothing by itself."""
        if not self._path:
            for statement in ("ANALYZE", "ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()"):
                self._execute(statement)

    def count_writes(self) -> int:
        """Return the number of transactions so far that have written something."""
        if self._path:
            # The counter of transactions in the header of SQLite's index of its write-ahead log.
            header = Path(f"{self._path}-shm").read_bytes()[:12]
            return int(struct.unpack("=8xI", header)[0])
        # PostgreSQL numbers only transactions that write.
        return int(self._execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")[0][0])

    def count_running_triggers(self) -> int:
        """Return the number of triggers that a triggerer has taken."""
        return int(self._execute("SELECT count(*) FROM trigger WHERE triggerer_id IS NOT NULL")[0][0])

    def count_states(self, state: str) -> int:
        """Return the number of tasks in a state."""
        return int(self._execute(f"SELECT count(*) FROM task_instance WHERE state = '{state}'")[0][0])  # noqa: S608

    def read_tasks(self) -> dict[UUID, TaskRow]:
        """Return all tasks by their id."""
        from sqlalchemy import MetaData, Table, select

        table = Table("task_instance", MetaData(), autoload_with=self._engine, resolve_fks=False)
        columns = table.c
        with self._engine.connect() as connection:
            query = select(columns.id, columns.state, columns.next_kwargs, columns.updated_at)
            rows = connection.execute(query).all()
        return {
            UUID(str(row.id)): TaskRow(
                row.state, '"callback"' in json.dumps(row.next_kwargs), _read_time(row.updated_at)
            )
            for row in rows
        }

    def _execute(self, statement: str) -> list[Any]:
        from sqlalchemy import text

        with self._engine.connect() as connection:
            result = connection.execute(text(statement))
            return list(result.all()) if result.returns_rows else []


def _read_time(moment: datetime) -> float:
    # SQLite has no time zones: Airflow writes UTC.
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
