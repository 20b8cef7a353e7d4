"""The programs that make up an Airflow."""

from __future__ import annotations

#: The first word of the command of a component that listens on a port.
API_SERVER = "api-server"
#: Airflow's command for each component, the scheduler last, because it starts workers at once. The log
#: servers are off: their ports are fixed, and the API server reads the files itself.
COMPONENTS: dict[str, tuple[str, ...]] = {
    "api-server": (API_SERVER,),
    "triggerer": ("triggerer", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
}
#: The same on SQLite, where workers have their own API server: the one behind the UI writes its audit
#: log on its event loop, and if a worker's request in the same process holds SQLite's write lock at that
#: moment, both wait for each other until one of them fails with "database is locked".
SQLITE_COMPONENTS: dict[str, tuple[str, ...]] = {
    "api-server": (API_SERVER, "--apps", "core"),
    "worker-api-server": (API_SERVER, "--apps", "execution"),
    **{name: command for name, command in COMPONENTS.items() if name != "api-server"},
}
#: The command of a Celery worker; without a log server too.
CELERY_WORKER = ("celery", "worker", "--skip-serve-logs")
#: The entries of Airflow's health report that must all be "healthy".
HEALTH_NAMES = ("metadatabase", "scheduler", "dag_processor", "triggerer")
