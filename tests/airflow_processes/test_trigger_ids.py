"""The database of the tests gives each trigger an id of its own, as those of production do."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lab.cluster.sqlite_trigger_ids import never_reuse_trigger_ids


@pytest.mark.parametrize("is_changed", [False, True])
def test_the_id_of_a_deleted_trigger_is_not_given_again(
    airflow_home: Path, tmp_path: Path, is_changed: bool
) -> None:
    original = airflow_home / "airflow.db"
    if not original.exists():
        pytest.skip("PostgreSQL never gives an id again")
    database = tmp_path / "airflow.db"
    copy_without_triggers(original, database)
    if is_changed:
        never_reuse_trigger_ids(database)
    ids = []
    with closing(sqlite3.connect(database)) as connection:
        for _ in range(2):
            row = connection.execute(
                "INSERT INTO \"trigger\" (classpath, kwargs, created_date) VALUES ('a', '{}', '2026-01-01')"
            )
            ids.append(row.lastrowid)
            connection.execute('DELETE FROM "trigger"')
    assert (ids[0] != ids[1]) is is_changed


def copy_without_triggers(source: Path, target: Path) -> None:
    """The tests of this process share one database, and some of them leave triggers in it."""
    with closing(sqlite3.connect(source)) as original, closing(sqlite3.connect(target)) as copy:
        original.backup(copy)
        with copy:
            copy.execute('DELETE FROM "trigger"')
