"""Keeps SQLite from reusing the ids of triggers; PostgreSQL and MySQL never reuse ids by default."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def never_reuse_trigger_ids(database: Path) -> None:
    """
    Recreate the table of triggers, which must be empty, with ids that are never reused.

    SQLite gives the id of a deleted row to the next row. The triggerer may still have an event of the deleted
    trigger, and would deliver it to the task that waits for the new trigger with the same id.

    :raises ValueError: The table does not have the expected definition.
    """
    with closing(sqlite3.connect(database)) as connection, connection:
        statements = connection.execute("SELECT sql FROM sqlite_master WHERE tbl_name = 'trigger'").fetchall()
        (table, *indexes) = [sql for (sql,) in statements if sql]
        own_ids = table.replace("id INTEGER NOT NULL", "id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL", 1)
        own_ids = own_ids.replace("CONSTRAINT trigger_pkey PRIMARY KEY (id),", "", 1)
        if own_ids.count("PRIMARY KEY") != 1 or "AUTOINCREMENT" not in own_ids:
            raise ValueError(f"unexpected definition of the table of triggers: {table}")
        connection.execute('DROP TABLE "trigger"')
        for statement in (own_ids, *indexes):
            connection.execute(statement)
