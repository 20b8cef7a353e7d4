"""
Reads the state of an Airflow deployment for ``airflow agent-tasks doctor``.

Everything is imported where it is used: if Airflow has moved one part, the command can still read the others.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

#: The clock of each kind of database in seconds since 1970.
_CLOCKS = {
    "postgresql": "extract(epoch from clock_timestamp())",
    "mysql": "unix_timestamp(now(6))",
    "sqlite": "(julianday('now') - 2440587.5) * 86400",
}


def read_database_time() -> float:
    """Return the database's clock in seconds since 1970."""
    from sqlalchemy import text

    with _open_database() as session:
        clock = _CLOCKS[session.get_bind().dialect.name]
        return float(session.execute(text(f"select {clock}")).scalar_one())


def read_health() -> Mapping[str, Any]:
    """Return the state of Airflow's components by their heartbeats, as ``/api/v2/monitor/health`` does."""
    from airflow.api.common.airflow_health import get_airflow_health

    require_database()
    return get_airflow_health()


def list_connection_ids(types: Collection[str]) -> list[str]:
    """Return the ids of the connections of these types that are stored in the database."""
    from airflow.models.connection import Connection
    from sqlalchemy import select

    query = select(Connection.conn_id).where(Connection.conn_type.in_(types)).order_by(Connection.conn_id)
    with _open_database() as session:
        return list(session.scalars(query))


def read_connections_as_a_server() -> None:
    """Let this process also find connections in the database, as the scheduler and the API server do."""
    with suppress(FileNotFoundError):
        require_database()
        # As Airflow's own command "connections test" does.
        os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"


def require_database() -> None:
    """Raise FileNotFoundError if the database is a missing SQLite file, which connecting would create."""
    from airflow.configuration import conf
    from sqlalchemy.engine import make_url

    url = make_url(conf.get("database", "sql_alchemy_conn"))
    if url.drivername.startswith("sqlite") and url.database and not Path(url.database).exists():
        raise FileNotFoundError(f"Airflow's database {url.database} does not exist")


def _open_database() -> AbstractContextManager[Any]:
    from airflow.utils.session import create_session

    require_database()
    return create_session()
