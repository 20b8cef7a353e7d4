"""Every test process gets an Airflow of its own: home, database and DAGs folder, set before its import."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

_HOME = tempfile.TemporaryDirectory(prefix="airflow-agent-tasks-")
AIRFLOW_HOME = Path(_HOME.name)

for _name in [name for name in os.environ if name.startswith(("AIRFLOW_", "TZAFON_", "LIGHTCONE_"))]:
    del os.environ[_name]
os.environ["AIRFLOW_HOME"] = str(AIRFLOW_HOME)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"


def pytest_unconfigure() -> None:
    _HOME.cleanup()


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """The home of an Airflow with a migrated database."""
    (AIRFLOW_HOME / "dags").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return AIRFLOW_HOME
