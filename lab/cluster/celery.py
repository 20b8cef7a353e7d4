"""What CeleryExecutor needs beside Airflow: its packages, which are in a folder of their own, and a Redis."""

from __future__ import annotations

import shutil
import socket
from contextlib import suppress
from pathlib import Path

from lab.cluster.cluster_programs import ClusterPrograms, ClusterTimeoutError
from lab.cluster.processes import Program, find_free_ports, wait_until
from lab.paths import ROOT

#: In PYTHONPATH, because Airflow looks for providers in every folder of the import path.
CELERY_FOLDER = ROOT / ".celery"
#: Seconds for Redis to execute commands.
STARTUP_TIMEOUT = 30.0


def list_lacks() -> list[str]:
    """Return what this machine lacks for CeleryExecutor."""
    lacks = []
    if not (CELERY_FOLDER / ".installed").exists():
        lacks.append("The Celery provider and its packages are not installed: run `make celery`.")
    if not shutil.which("redis-server"):
        lacks.append("redis-server is not installed. On Debian or Ubuntu: apt-get install redis-server")
    return lacks


def build_celery_settings(*, concurrency: int) -> dict[str, str]:
    """
    Return the settings of CeleryExecutor, with a free port for its Redis.

    The results are in Airflow's database, as by default: without their Redis, schedulers would end.

    :param concurrency: The number of tasks that a worker runs at the same time.
    """
    return {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{find_free_ports(1)[0]}/0",
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(concurrency),
        "PYTHONPATH": str(CELERY_FOLDER),
    }


def start_redis(programs: ClusterPrograms) -> Program:
    """
    Start the Redis of the settings in the cluster's home, and wait until it executes commands.

    It writes each message to its disk, so a restart after a kill loses none.

    :raises ClusterTimeoutError: It did not start in time.
    """
    port = int(programs.environment["AIRFLOW__CELERY__BROKER_URL"].rsplit(":", 1)[1].split("/")[0])
    folder = Path(programs.home) / "redis"
    folder.mkdir(exist_ok=True)
    options = {"bind": "127.0.0.1", "port": port, "dir": folder, "save": "", "appendonly": "yes"}
    command = [
        "redis-server",
        *(str(word) for name, value in options.items() for word in (f"--{name}", value)),
    ]
    redis = programs.start_program("redis", command)
    if not wait_until(lambda: _responds(port), timeout=STARTUP_TIMEOUT):
        raise ClusterTimeoutError(f"Redis does not respond. {redis.describe_log_end()}")
    return redis


def _responds(port: int) -> bool:
    # A Redis that still reads its data from the disk accepts connections, and answers otherwise.
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(100).startswith(b"+PONG")
    return False
