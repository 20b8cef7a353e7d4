"""The programs that make up an Airflow."""

from __future__ import annotations

#: Airflow's command for each component, the scheduler last, because it starts workers at once. The log
#: servers are off: their ports are fixed, and the API server reads the files itself.
COMPONENTS: dict[str, tuple[str, ...]] = {
    "api-server": ("api-server",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
}
#: The same on SQLite, where workers have their own API server: the one behind the UI writes its audit
#: log on its event loop, and if a worker's request in the same process holds SQLite's write lock at that
#: moment, both wait for each other until one of them fails with "database is locked".
SQLITE_COMPONENTS: dict[str, tuple[str, ...]] = {
    "api-server": ("api-server", "--apps", "core"),
    "worker-api-server": ("api-server", "--apps", "execution"),
    **{name: command for name, command in COMPONENTS.items() if name != "api-server"},
}
#: The components that listen on a port.
API_SERVERS = ("api-server", "worker-api-server")
#: The entries of Airflow's health report that must all be "healthy".
HEALTH_NAMES = ("metadatabase", "scheduler", "dag_processor", "triggerer")
