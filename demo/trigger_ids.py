"""Makes SQLite give each trigger an id of its own, as PostgreSQL and MySQL do."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def never_reuse_trigger_ids(database: Path) -> None:
    """
    Make the table of triggers anew, with ids that are not given twice; it has to be empty.

    SQLite gives the id of a deleted row to the next one. The triggerer may still hold the event of a trigger
    that was deleted, and hands it to the task that waits for the trigger which now has the id.

    :raises ValueError: where the table is not as it is expected.
    """
    with closing(sqlite3.connect(database)) as connection, connection:
        statements = connection.execute("SELECT sql FROM sqlite_master WHERE tbl_name = 'trigger'").fetchall()
        (table, *indexes) = [sql for (sql,) in statements if sql]
        own_ids = table.replace("id INTEGER NOT NULL", "id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL", 1)
        own_ids = own_ids.replace("CONSTRAINT trigger_pkey PRIMARY KEY (id),", "", 1)
        if own_ids.count("PRIMARY KEY") != 1 or "AUTOINCREMENT" not in own_ids:
            raise ValueError(f"this is not the table of triggers that was expected: {table}")
        connection.execute('DROP TABLE "trigger"')
        for statement in (own_ids, *indexes):
            connection.execute(statement)
