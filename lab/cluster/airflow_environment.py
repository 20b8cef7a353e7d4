"""The environment variables of a fast Airflow, independent of the user's own."""

from __future__ import annotations

import base64
import os
import secrets
import sys
from pathlib import Path

#: The user's variables that programs keep. Others, such as a proxy, AIRFLOW__* or PYTHON*, could change the
#: outcome.
KEPT_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ")

#: If a scheduler or a worker is killed, its tasks are found after half a minute instead of five minutes.
QUICK_RECOVERY = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "25",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
}


def build_clean_environment() -> dict[str, str]:
    """Return the user's environment without the variables that could change how Airflow behaves."""
    environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    search_path = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    # If an interpreter crashes, the component's log shows where.
    return {**environment, "PATH": search_path, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}


def build_airflow_environment(home: Path, dags_folder: Path, database_url: str) -> dict[str, str]:
    """Return a clean environment with the settings of one installation, which has its own keys."""
    return {
        **build_clean_environment(),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        # Everyone is an admin: the server listens on this machine only, and contains only the demo.
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database_url,
        "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        # In seconds, all below the defaults, so that a run takes seconds instead of half a minute.
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.25",
        "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        # A worker may take this long to exit after its task has deferred. If the trigger fires earlier, the
        # scheduler assumes that the waiting task was killed, and fails it.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        # A worker that cannot import a DAG file tries again three times, by default a minute apart.
        "AIRFLOW__WORKERS__MISSING_DAG_RETRY_DELAY": "5",
    }


def build_address_settings(ui_url: str, worker_url: str) -> dict[str, str]:
    """Return the settings with the addresses of the two API servers."""
    return {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__BASE_URL": ui_url,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{worker_url}/execution/",
    }
