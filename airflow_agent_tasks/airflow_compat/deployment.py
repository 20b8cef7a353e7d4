"""
What ``airflow agent-tasks doctor`` reads of an Airflow deployment.

Everything is imported where it is used: if Airflow has moved one part, the command still reads the others.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

#: The clock of each kind of database in seconds since 1970.
_CLOCKS = {
    "postgresql": "extract(epoch from clock_timestamp())",
    "mysql": "unix_timestamp(now(6))",
    "sqlite": "(julianday('now') - 2440587.5) * 86400",
}


def read_database_time() -> float:
    """Return the database's clock in seconds since 1970."""
    from airflow.utils.session import create_session
    from sqlalchemy import text

    with create_session() as session:
        clock = _CLOCKS[session.get_bind().dialect.name]
        return float(session.execute(text(f"select {clock}")).scalar_one())


def read_health() -> Mapping[str, Any]:
    """Return the state of Airflow's components by their heartbeats, as ``/api/v2/monitor/health`` does."""
    from airflow.api.common.airflow_health import get_airflow_health

    return get_airflow_health()


def list_connection_ids(types: Collection[str]) -> list[str]:
    """Return the ids of the connections of these types that are stored in the database."""
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session
    from sqlalchemy import select

    query = select(Connection.conn_id).where(Connection.conn_type.in_(types)).order_by(Connection.conn_id)
    with create_session() as session:
        return list(session.scalars(query))


def read_connections_as_a_server() -> None:
    """Let this process find connections in the database, too, as the scheduler and the API server do."""
    # As Airflow's own command "connections test" does.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
